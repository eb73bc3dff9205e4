"""Folders of images, decoded once into a prepared file. Nothing is written into the folder itself."""

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from kd_cli.config import ConfigError, DataConfig, KdError
from kd_cli.data.dataset import Dataset
from kd_cli.data.folders import Files, ImageFolder, list_folder
from kd_cli.data.images import Shape, Survey, decode, survey_sample
from kd_cli.data.prepared_file import NotPreparedError, read, read_metadata, write
from kd_cli.data.splits import count_below, divide, stratified_order

log = logging.getLogger(__name__)

TEST_FRACTION = 0.2
"""Of a folder's images, where nothing else is asked for."""

VALIDATION_FRACTION = 0.1
"""Of a folder's training images, likewise."""


@dataclass(frozen=True)
class _Outcome:
    """What is in a prepared file: the shape of its images, and the files that are left out as they cannot be read."""

    shape: Shape
    unreadable: tuple[str, ...] = ()


class _OtherwiseError(Exception):
    """The images turned out not to be what their sample promised."""

    def __init__(self, outcome: _Outcome) -> None:
        super().__init__()
        self.outcome = outcome


def load(path: Path, config: DataConfig, train: bool = True) -> Dataset:
    """Load a folder of images, decoding it where no prepared file was made of the files that it holds now.

    Raises:
        ConfigError: a fraction leaves a class without an image, or the folder has its own validation part.
        KdError: it has no classes or images that could be learnt from, an image cannot be read, or the disk is full.
    """
    folder = list_folder(path)
    fraction = (config.test_fraction or TEST_FRACTION) if folder.undivided else None
    options = f"{config.image_size or 'commonest'}" + (f"-{fraction:g}" if fraction else "")
    place = hashlib.sha256(os.fsencode(folder.path)).hexdigest()[:8]
    file = _kept(config, folder.name) / f"{place}-{options}.safetensors"
    key = f"{folder.name} {options} {folder.digest}"
    try:
        dataset, new = read(file, key, train), False
    except NotPreparedError:
        _prepare(folder, file, key, replace(config, test_fraction=fraction))
        dataset, new = read(file, key, train), True
    info = replace(dataset.info, image_size=config.image_size, test_fraction=fraction)
    dataset, metadata = replace(dataset, info=info, source=folder.path), read_metadata(file)
    count, names = json.loads(metadata["unreadable"])
    if count:
        _tell_of_unreadable(folder, count, names, config.skip_unreadable)
    if new and folder.others:
        endings = ", ".join(f"{number:,} {ending}" for ending, number in sorted(folder.others.items()))
        log.warning("left out of %s what is no image by its name: %s", folder.path, endings)
    return set_aside(dataset, int(metadata["validation"]), config.validation_fraction) if train else dataset


def recall(config: DataConfig) -> Path | None:
    """The folder that checkpoints call by this name, if it was prepared here.

    Raises:
        ConfigError: there are several, or it is gone.
    """
    kept = _kept(config, config.dataset)
    if Path(config.dataset).name != config.dataset or not os.path.isdir(kept):
        return None
    places = set()
    for file in kept.glob("*.safetensors"):
        with contextlib.suppress(NotPreparedError, KeyError, ValueError):
            places.add(Path(json.loads(read_metadata(file)["source"])))
    there = sorted(place for place in places if place.is_dir())
    if len(there) > 1:
        raise ConfigError(f"{config.dataset} may be any of {', '.join(map(str, there))}: give its path")
    if places and not there:
        raise ConfigError(f"{config.dataset} was in {places.pop()}, which is not there any more: give its path")
    return there[0] if there else None


def _kept(config: DataConfig, name: str) -> Path:
    return config.data_dir / "folders" / name


def _prepare(folder: ImageFolder, file: Path, key: str, config: DataConfig) -> None:
    """Decode all images. That they are as a sample of them is taken for granted, and found out at the end."""
    paths = [path for part in folder.parts.values() for path in part.paths]
    outcome = _Outcome(survey_sample(paths).shape(config.image_size))
    for _ in range(3):
        try:
            return _write(folder, file, key, config, outcome)
        except _OtherwiseError as error:
            outcome = error.outcome
    raise KdError(f"{folder.path} changed while it was read: try again")


def _write(folder: ImageFolder, file: Path, key: str, config: DataConfig, outcome: _Outcome) -> None:
    test, train, validation = _divide(folder, config, frozenset(outcome.unreadable))
    unreadable = [os.path.relpath(path, folder.path) for path in outcome.unreadable]
    metadata = {
        "key": key,
        "name": folder.name,
        "classes": json.dumps(folder.classes),
        "source": json.dumps(str(folder.path)),
        "validation": str(validation),
        "unreadable": json.dumps([len(unreadable), unreadable[:3]]),
    }
    layout: dict[str, tuple[str, tuple[int, ...]]] = {}
    for split, files in (("test", test), ("train", train)):
        layout[f"{split}.images"] = ("U8", (len(files), *outcome.shape))
        layout[f"{split}.labels"] = ("I64", (len(files),))

    def decode_all(bar: "tqdm[Any]") -> Iterator[tuple[str, NDArray[Any]]]:
        survey = Survey()
        for split, files in (("test", test), ("train", train)):
            for images in decode(files.paths, outcome.shape, survey, bar):
                yield f"{split}.images", images
            yield f"{split}.labels", np.array(files.labels, np.int64)
        if survey.unreadable:
            names = [os.path.relpath(path, folder.path) for path in survey.unreadable]
            _tell_of_unreadable(folder, len(names), names[:3], config.skip_unreadable)
        found = _Outcome(survey.shape(config.image_size), (*outcome.unreadable, *survey.unreadable))
        if found != outcome:
            raise _OtherwiseError(found)

    total = len(test) + len(train)
    with tqdm(total=total, desc=f"preparing {folder.name}", unit="image", leave=False, disable=None) as bar:
        write(file, metadata, layout, decode_all(bar))


def _divide(folder: ImageFolder, config: DataConfig, without: frozenset[str]) -> tuple[Files, Files, int]:
    """The files to test with, those to train with, and how many of these, at the beginning, are to validate with."""
    parts = {part: files.without(without) for part, files in folder.parts.items()}
    for part, files in parts.items():
        for label in sorted(set(range(len(folder.classes))) - set(files.labels)):
            raise KdError(
                f"{folder.path}: no image of {folder.classes[label]!r} ({part}) can be read: mend or add some"
            )
    if config.test_fraction is not None:
        labels = torch.tensor(parts["all"].labels)
        order = stratified_order(labels)
        count = count_below(config.test_fraction, labels, "test-fraction", folder.classes)
        test, train = parts["all"].take(order[:count].tolist()), parts["all"].take(order[count:].tolist())
    else:
        test, train = parts["test"], parts["train"]
    train = train.take(stratified_order(torch.tensor(train.labels)).tolist())
    own = parts.get("validation", Files([], []))
    return test, Files(own.paths + train.paths, own.labels + train.labels), len(own)


def _tell_of_unreadable(folder: ImageFolder, count: int, names: list[str], skip: bool) -> None:
    which = f"{', '.join(names)}{', ...' if count > len(names) else ''}"
    if not skip:
        raise KdError(
            f"{folder.path}: {count:,} image{'s' * (count > 1)} cannot be read: {which}; "
            "mend or remove them, or leave them out with --skip-unreadable"
        )
    log.warning("left out %d image%s of %s that cannot be read: %s", count, "s" * (count > 1), folder.path, which)


def set_aside(dataset: Dataset, own: int, fraction: float | None) -> Dataset:
    """The data set with its own validation part, or with a fraction of its training images as one.

    Args:
        dataset: a folder's, as its prepared file has it.
        own: how many images its own validation part has; they come first.
        fraction: of the others; None is the default.

    Raises:
        ConfigError: there are both, or the fraction leaves a class without an image.
    """
    if own and fraction is not None:
        raise ConfigError("--validation-fraction: the folder has a validation part of its own; leave the option out")
    if not own:
        fraction = VALIDATION_FRACTION if fraction is None else fraction
        own = count_below(fraction, dataset.train.labels, "validation-fraction", dataset.info.classes)
    if not own:
        return dataset
    validation, train = divide(dataset.train, own)
    return replace(dataset, train=train, validation=validation)
