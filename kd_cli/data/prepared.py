"""Data sets, prepared once and then loaded in milliseconds."""

import hashlib
import logging
import tempfile
import zlib
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from kd_cli.config import DataConfig, KdError, require_name
from kd_cli.data.dataset import DataInfo, Dataset, Split
from kd_cli.data.download import NoNetworkError
from kd_cli.data.sources import SOURCES, Tensors
from kd_cli.data.splits import count_below, divide, stratified_order
from kd_cli.files import write_atomically

log = logging.getLogger(__name__)

PREPARED_FORMAT = "2"


def load(config: DataConfig, train: bool = True) -> Dataset:
    """Load a data set, preparing or downloading it where needed; ``auto`` falls back from MNIST to the bundled digits.

    Raises:
        ConfigError: there is no data set of this name.
        KdError: the data set is not there and cannot be had, or an archive of it is damaged.
    """
    dataset = _load_by_name(config, train)
    return _set_aside(dataset, config.validation_fraction or 0) if train else dataset


def _load_by_name(config: DataConfig, train: bool) -> Dataset:
    if config.dataset != "auto":
        return _load(config.dataset, config.data_dir, train)
    try:
        return _load("mnist", config.data_dir, train)
    except NoNetworkError as error:
        log.warning("%s", error)
        log.warning(
            "USING THE BUNDLED DIGITS INSTEAD OF MNIST: 1,797 images of 8x8 pixels. "
            "These numbers are not comparable with MNIST's."
        )
        return _load("digits", config.data_dir, train)


def require_known(name: str) -> None:
    """Refuse the name of no data set.

    Raises:
        ConfigError: names those that there are.
    """
    require_name("data set", name, ["auto", *SOURCES])


def _load(name: str, data_dir: Path, train: bool) -> Dataset:
    require_known(name)
    folder = data_dir / SOURCES[name].folder
    prepared = folder / "prepared.safetensors"
    dataset = _read_prepared(name, prepared, train)
    if dataset is not None:
        return dataset
    with _scratch(folder) as scratch:
        content = _serialise(name, SOURCES[name].make(folder / "raw", Path(scratch)))
    try:
        write_atomically(prepared, content)
    except KdError as error:
        log.warning("%s (only a matter of speed: %s is prepared anew next time)", error, name)
        with tempfile.NamedTemporaryFile(suffix=".safetensors") as file:
            file.write(content)
            file.flush()
            dataset = _read_prepared(name, Path(file.name), train)
    else:
        dataset = _read_prepared(name, prepared, train)
    if dataset is None:
        raise KdError(f"{prepared} changed while it was read: try again")
    return dataset


def _set_aside(dataset: Dataset, fraction: float) -> Dataset:
    """The data set with a fraction of its training images as its validation part."""
    if not fraction:
        return dataset
    labels = dataset.train.labels
    count = count_below(fraction, labels, "validation-fraction", dataset.info.classes)
    order = stratified_order(labels)
    validation, train = divide(Split(dataset.train.images[order], labels[order]), count)
    return replace(dataset, train=train, validation=validation)


def _scratch(folder: Path) -> "tempfile.TemporaryDirectory[str]":
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryDirectory(prefix=".staging-", suffix=".tmp", dir=folder, ignore_cleanup_errors=True)
    except OSError:  # a read-only folder still serves its archives
        return tempfile.TemporaryDirectory(prefix="kd-")


def _serialise(name: str, tensors: Tensors) -> bytes:
    """The content of a prepared file: four tensors, their normalisation, a checksum of each and a digest of all."""
    std, mean = torch.std_mean(tensors["train.images"].float() / 255, dim=(0, 2, 3))
    digest = hashlib.sha256()
    for key in sorted(tensors):
        digest.update(tensors[key].contiguous().numpy().data)
    metadata = {"format": PREPARED_FORMAT, "dataset": name, "digest": digest.hexdigest()}
    metadata |= {key: ",".join(f"{value:.4f}" for value in values) for key, values in (("mean", mean), ("std", std))}
    metadata |= {key: _checksum(tensor) for key, tensor in tensors.items()}
    return save({key: tensor.contiguous() for key, tensor in tensors.items()}, metadata)


def _read_prepared(name: str, path: Path, train: bool) -> Dataset | None:
    """The data set in a prepared file, or None where the file is missing, stale, foreign or damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != PREPARED_FORMAT or metadata.get("dataset") != name:
                return None
            test = _read_split(file, "test", metadata)
            _, channels, height, width = test.images.shape
            info = DataInfo(
                name=name,
                classes=SOURCES[name].classes,
                shape=(channels, height, width),
                mean=_numbers(metadata["mean"]),
                std=_numbers(metadata["std"]),
                digest=metadata["digest"],
            )
            nothing = Split(test.images[:0], test.labels[:0])
            return Dataset(info, _read_split(file, "train", metadata) if train else nothing, test)
    except (OSError, SafetensorError, KeyError, ValueError):
        return None


def _read_split(file: safe_open, split: str, metadata: dict[str, str]) -> Split:
    tensors = {}
    for kind in ("images", "labels"):
        key = f"{split}.{kind}"
        tensors[kind] = file.get_tensor(key)
        if _checksum(tensors[kind]) != metadata[key]:
            raise ValueError(f"{key} does not match its checksum")
    return Split(tensors["images"], tensors["labels"].long())


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(float(part) for part in text.split(","))


def _checksum(tensor: Tensor) -> str:
    return f"{zlib.crc32(tensor.contiguous().numpy().data):08x}"
