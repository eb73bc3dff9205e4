"""Data sets, prepared once and then loaded in milliseconds."""

import contextlib
import json
import logging
import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from kd_cli.config import ConfigError, DataConfig, KdError, require_name
from kd_cli.data import in_memory, prepared_folder
from kd_cli.data.dataset import DataInfo, Dataset, Split
from kd_cli.data.download import NoNetworkError
from kd_cli.data.folders import list_folder, may_be_called
from kd_cli.data.prepared_file import NotPreparedError, read, read_metadata, write
from kd_cli.data.sources import SOURCES, Tensors
from kd_cli.data.splits import count_below, divide, stratified_order

log = logging.getLogger(__name__)

ENDING = ".safetensors"

FOR_FOLDERS = ("image_size", "test_fraction", "skip_unreadable")
"""Options that have no meaning for other data sets."""


def load(config: DataConfig, train: bool = True) -> Dataset:
    """Load a data set, preparing or downloading it where needed; ``auto`` falls back from MNIST to the bundled digits.

    Its images are mapped from a prepared file, so that they take memory only while there is plenty. A prepared file is
    a data set itself, too: a machine that has it needs no images.

    Raises:
        ConfigError: there is no data set of this name, nor a folder; or an option does not fit it.
        KdError: the data set is not there and cannot be had, or an archive or an image of it is damaged.
    """
    folder = _find_folder(config)
    if folder is not None:
        return prepared_folder.load(folder, config, train)
    file = _find_file(config)
    for field in FOR_FOLDERS:
        if getattr(config, field) != getattr(DataConfig(), field):
            flag = field.replace("_", "-")
            raise ConfigError(f"--{flag} is for folders of images, and {config.dataset} is none: leave it out")
    if file is not None:
        return _load_file(file, config.validation_fraction, train)
    dataset = in_memory.find(config.dataset)
    if dataset is None:
        dataset = _load_by_name(config, train)
        dataset = replace(dataset, source=_archives(dataset.info.name, config.data_dir))
    return _set_aside(dataset, config.validation_fraction) if train and config.validation_fraction else dataset


def files_of(dataset: Dataset) -> Iterator[Path]:
    """The user's files that a data set is made of: a folder's images, or archives.

    Raises:
        KdError: the folder cannot be read any more.
    """
    if dataset.source is None:
        return
    if dataset.source == dataset.file:
        yield dataset.source
        return
    if dataset.info.name in SOURCES:
        yield from dataset.source.rglob("*")
    else:
        for files in list_folder(dataset.source).parts.values():
            yield from map(Path, files.paths)


def name_of(config: DataConfig) -> str:
    """What checkpoints, and the folders that they are kept in, call a data set. Looks into no image.

    Raises:
        ConfigError: there is no such data set.
        KdError: there is nothing in the folder that could be learnt from.
    """
    file = _find_file(config)
    if file is not None:
        return _read_file(file, train=False).info.name
    folder = _find_folder(config)
    return config.dataset if folder is None else list_folder(folder).name


def as_trained(config: DataConfig, trained: Iterable[DataInfo]) -> DataConfig:
    """A folder of images, sized and divided as it was for networks that were trained on it, as far as nothing is told.

    Divided otherwise, they would be tested with images that they were trained on.

    Args:
        config: the data set that was asked for.
        trained: what the networks were trained on; other data sets decide nothing.

    Raises:
        ConfigError: there is no such data set.
    """
    folder = _find_folder(config)
    own = [each for each in trained if folder is not None and may_be_called(folder, each.name)]
    size = next((each.image_size for each in own if each.image_size), None)
    fraction = next((each.test_fraction for each in own if each.test_fraction), None)
    return replace(config, image_size=config.image_size or size, test_fraction=config.test_fraction or fraction)


def _find_folder(config: DataConfig) -> Path | None:
    """The folder that was asked for, by its path or by the name that checkpoints call it; None for other data sets."""
    names = ["auto", *SOURCES]
    if config.dataset in names or in_memory.find(config.dataset) or _find_file(config):
        return None
    path = os.path.expanduser(config.dataset)
    if os.path.isdir(path):
        return Path(path)
    recalled = prepared_folder.recall(config)
    if recalled is None:
        require_name("data set", config.dataset, names, ", or the path of a folder of images")
    return recalled


def _find_file(config: DataConfig) -> Path | None:
    """The prepared file that was asked for; None for other data sets."""
    path = os.path.expanduser(config.dataset)
    return Path(path) if path.endswith(ENDING) and os.path.isfile(path) else None


def _read_file(path: Path, train: bool) -> Dataset:
    try:
        dataset = read(path, read_metadata(path)["key"], train)
    except (NotPreparedError, KeyError) as error:
        raise KdError(f"{path} is damaged, or no data set that kd prepared: give the folder of images") from error
    return replace(dataset, source=path)


def _load_file(path: Path, fraction: float | None, train: bool) -> Dataset:
    dataset, own = _read_file(path, train), read_metadata(path).get("validation")
    if not train:
        return dataset
    if own is not None:  # a folder's, whose images are in the order in which they are divided
        return prepared_folder.set_aside(dataset, int(own), fraction)
    return _set_aside(dataset, fraction) if fraction else dataset


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


def _load(name: str, data_dir: Path, train: bool) -> Dataset:
    source = SOURCES[name]
    folder, archives = data_dir / source.folder, _archives(name, data_dir)
    prepared = folder / "prepared.safetensors"
    with contextlib.suppress(NotPreparedError):
        return read(prepared, name, train)
    with _scratch(folder) as scratch:
        tensors = source.make(archives, Path(scratch))
        try:
            _write(prepared, name, tensors)
            return read(prepared, name, train)
        except NotPreparedError as error:
            raise KdError(f"{prepared} changed while it was read: try again") from error
        except KdError as error:
            log.warning("%s (only a matter of speed: %s is prepared anew next time)", error, name)
    with tempfile.TemporaryDirectory(prefix="kd-", ignore_cleanup_errors=True) as elsewhere:
        _write(Path(elsewhere) / prepared.name, name, tensors)
        return read(Path(elsewhere) / prepared.name, name, train)


def _archives(name: str, data_dir: Path) -> Path:
    source = SOURCES[name]
    return data_dir / source.archives if source.archives else data_dir / source.folder / "raw"


def _write(path: Path, name: str, tensors: Tensors) -> None:
    metadata = {"key": name, "name": name, "classes": json.dumps(SOURCES[name].classes)}
    arrays = {key: tensors[key].contiguous().numpy() for key in sorted(tensors)}
    pieces = (
        (key, array[start : start + 4096]) for key, array in arrays.items() for start in range(0, len(array), 4096)
    )
    write(path, metadata, {key: ("U8", array.shape) for key, array in arrays.items()}, pieces)


def _scratch(folder: Path) -> "tempfile.TemporaryDirectory[str]":
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryDirectory(prefix=".staging-", suffix=".tmp", dir=folder, ignore_cleanup_errors=True)
    except OSError:  # a read-only folder still serves its archives
        return tempfile.TemporaryDirectory(prefix="kd-", ignore_cleanup_errors=True)


def _set_aside(dataset: Dataset, fraction: float) -> Dataset:
    """The data set with a fraction of its training images as its validation part."""
    labels = dataset.train.labels
    count = count_below(fraction, labels, "validation-fraction", dataset.info.classes)
    order = stratified_order(labels)
    validation, train = divide(Split(dataset.train.images[order], labels[order]), count)
    return replace(dataset, train=train, validation=validation)
