"""``kd predict``: image files in, what teacher and student predict for them out."""

import itertools
import logging
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from kd_cli.commands.checkpoints import (
    describe_model,
    load_network,
    require_models,
    require_same_kind,
    require_trained_on,
)
from kd_cli.commands.image_files import STDIN, Found, Seen, find_images, label_from_name, open_image, see
from kd_cli.commands.inputs import inputs_of
from kd_cli.commands.results import ImagePrediction, Prediction, PredictionResult, RankedClass, Score
from kd_cli.config import ConfigError, DataConfig, KdError, Role, RunConfig
from kd_cli.data import prepared
from kd_cli.data.dataset import DataInfo
from kd_cli.data.folders import NAME_ENDING
from kd_cli.digits import saved
from kd_cli.digits.signs import looks_like_no_digit
from kd_cli.files import require_no_input, write_atomically
from kd_cli.networks.checkpoint import Checkpoint, find_checkpoint, is_plain, require_readable
from kd_cli.networks.classifier import compute_logits
from kd_cli.training import device

log = logging.getLogger(__name__)

READ_AHEAD = 2**23
"""Bytes of images that are read before they are predicted together."""


def predict(
    data: str,
    run: RunConfig,
    sources: Sequence[str],
    teacher: Path | None = None,
    student: Path | None = None,
    top: int = 2,
    labels_from_name: bool = False,
    save_to: Path | None = None,
    force: bool = False,
    keep_seen: bool = True,
    every_digit: bool = False,
    reports: Sequence[Path] = (),
    data_dir: Path = DataConfig().data_dir,
) -> PredictionResult:
    """Predict with a teacher and a student, or with one of them where the other is neither given nor found.

    A file that cannot be read has an ``error`` and no predictions. Of one that shows several digits, the one with most
    ink is read.

    Args:
        data: the data set that the networks were trained on, by its name or by its folder; ``auto`` is that of the
            networks that are given, or else MNIST. The data set itself is needed only where a network is given and
            none of this data set.
        run: where the networks are, and where they compute.
        sources: files, folders, glob patterns, or ``-`` for standard input.
        teacher: its checkpoint, in place of the data set's.
        student: likewise.
        top: how many classes to list for each image, the most probable first.
        labels_from_name: take labels from the files' names, see `label_from_name`, and count correct predictions.
        save_to: a folder for what the networks saw, as PNG files.
        force: replace files there that this program did not write; never one that it reads.
        keep_seen: keep what the networks saw of all images in memory.
        every_digit: read each digit of an image that shows several. Such an image has no label, which says what one
            digit is.
        reports: files that the result will be written to; none of them may be one that is read.
        data_dir: where data sets are kept.

    Raises:
        ConfigError: there is no such data set, or it is not of digits and ``every_digit`` is given.
        KdError: there is no such network, it is of another data set, the two take different images, or ``save_to``
            cannot be written, or a file would be lost.
    """
    target = device.select(run.device)
    networks = _load_networks(DataConfig(data, data_dir), run, {Role.teacher: teacher, Role.student: student}, target)
    about = next(iter(networks.values())).metadata.data
    if every_digit and not about.is_digits:
        raise ConfigError(f"--all: {about.name} is no data set of digits, and its images are read as a whole")
    files = list(find_images(sources))
    read = [*(Path(file) for file, _ in files), *(network.path for network in networks.values())]
    require_no_input(reports, inputs_of(read))
    reading = _read(files, about, labels_from_name, every_digit)
    if every_digit and save_to:  # only when all are read is it known how many there are
        found = list(reading)
        names = [_name(each.file, each.error, each.digit if (each.digits or 1) > 1 else None) for each in found]
        reading = iter(found)
    else:
        names = [_name(file, error) for file, error in files]
    reading = _save(reading, saved.choose_places(names, save_to, inputs_of(read), force)) if save_to else reading
    images: list[ImagePrediction] = []
    while chunk := list(itertools.islice(reading, max(1, READ_AHEAD // math.prod(about.shape)))):
        images += _predict(chunk, networks, top, keep_seen)
    return PredictionResult(
        about.name,
        *device.describe(target),
        models=tuple(replace(describe_model(network), role=role.value) for role, network in networks.items()),
        images=tuple(images),
        accuracy={role.value: _score(images, role) for role in networks} if labels_from_name else None,
        every_digit=every_digit,
    )


def classify(
    checkpoint: Checkpoint, images: NDArray[np.uint8], top: int = 1, labels: Sequence[str | None] | None = None
) -> list[Prediction]:
    """Predict with one network.

    Args:
        checkpoint: the network.
        images: as its data has them, (N, channels, height, width).
        top: how many classes to list for each image, the most probable first.
        labels: the class of each image, where it is known.
    """
    classes = checkpoint.metadata.data.classes
    place = next(checkpoint.classifier.parameters()).device
    with torch.inference_mode():
        logits = compute_logits(checkpoint.classifier, torch.from_numpy(images).to(place))
    logits, confidence = logits.cpu().double(), checkpoint.metadata.confidence  # not every device has float64
    rows = (logits / (confidence.temperature if confidence else 1)).softmax(dim=1).tolist()
    least = confidence.least if confidence else None
    return [
        _describe(row, classes, top, label, least)
        for row, label in zip(rows, labels or [None] * len(rows), strict=True)
    ]


def is_doubtful(predictions: Sequence[Prediction], seen: NDArray[np.uint8], data: DataInfo) -> bool | None:
    """Whether an image may show none of the classes; None where no checkpoint says when its network is unsure.

    Args:
        predictions: of each network.
        seen: what they saw, (channels, height, width).
        data: what they were trained on; of digits, the shape of the ink counts, too.
    """
    told = [each.unlike for each in predictions if each.unlike is not None]
    if not told:
        return None
    differ = len({each.label for each in predictions}) > 1
    return any(told) or differ or (data.is_digits and looks_like_no_digit(seen[0]))


def _load_networks(
    data: DataConfig, run: RunConfig, given: Mapping[Role, Path | None], where: torch.device
) -> dict[Role, Checkpoint]:
    """The networks that are given and, in place of others, those of the data set, as far as it has any."""
    paths = {role: path for role, path in given.items() if path}
    for path in paths.values():
        require_readable(path)
    networks = {role: load_network(path, where, run) for role, path in paths.items() if not is_plain(path)}
    name = name_data(data.dataset, run.models_dir, _data_of(networks))
    missing = []
    for role in [role for role in given if role not in paths]:
        try:
            require_models(run, name)
            paths[role] = find_checkpoint(run.models_dir, name, role)
        except KdError as error:
            missing.append(error)
        else:
            networks[role] = load_network(paths[role], where, run)
    if not paths:
        raise missing[0]
    if missing:
        log.warning("the %s predicts alone: %s", next(iter(paths)).value, missing[0])
    named = None if data.dataset == "auto" else _describe_data(data, name, networks)
    about = named or _data_of(networks)
    networks = {
        role: networks.get(role) or load_network(paths[role], where, run, about) for role in given if role in paths
    }
    if named:
        for network in networks.values():
            require_same_kind(network, named)
    _require_same_images(list(networks.values()))
    return networks


def _data_of(networks: Mapping[Role, Checkpoint]) -> DataInfo | None:
    return next((network.metadata.data for network in networks.values()), None)


def _describe_data(data: DataConfig, name: str, networks: Mapping[Role, Checkpoint]) -> DataInfo:
    """A data set that was named, as one of its networks knows it, or else from the data set itself.

    Raises:
        KdError: a network is of another one, or the data set cannot be had.
    """
    for network in networks.values():
        require_trained_on(network, name)
    known = [network.metadata.data for network in networks.values() if network.metadata.data.name == name]
    return known[0] if known else prepared.load(data, train=False).info


def name_data(data: str, models_dir: Path, about: DataInfo | None = None) -> str:
    """The name of the data set that networks were trained on, which need not be here.

    Args:
        data: its name or its folder; ``auto`` is what ``about`` describes, or MNIST.
        models_dir: where networks are.
        about: the data of a network that is given.

    Raises:
        ConfigError: there is no such data set.
    """
    if data == "auto":
        return about.name if about else "mnist"
    kept = os.listdir(models_dir) if os.path.isdir(models_dir) else []
    if data in kept:
        return data
    try:
        return prepared.name_of(DataConfig(data))
    except ConfigError:  # a folder of images that is not here, by its plain name
        named = [name for name in kept if re.fullmatch(re.escape(data) + NAME_ENDING, name)]
        if len(named) != 1:
            raise
        return named[0]


def _require_same_images(networks: Sequence[Checkpoint]) -> None:
    first = networks[0].metadata.data
    for network in networks[1:]:
        data = network.metadata.data
        same_kind = (data.shape, data.is_handwriting) == (first.shape, first.is_handwriting)
        if not same_kind or set(data.classes) != set(first.classes):
            raise KdError(
                f"{network.path} was trained on other {'classes' if same_kind else 'images'} ({data.name}) than "
                f"{networks[0].path} ({first.name}): give a teacher and a student of the same data"
            )


def _read(
    files: Sequence[Found], data: DataInfo, labels_from_name: bool, every_digit: bool
) -> Iterator[ImagePrediction]:
    """What the networks will see of each file, or why it cannot be read; the predictions are still missing."""
    for file, error in tqdm(files, unit="image", disable=None if len(files) > 1 else True, leave=False):
        found: list[Seen] = []
        try:
            if error is None:
                found = see(*open_image(file), data, every_digit)
        except KdError as reason:
            error = str(reason)
        label = label_from_name(file, data) if labels_from_name and len(found) <= 1 else None
        image = ImagePrediction(file, error, label, None, None, None, None, None)
        if not found:
            yield image
        for each in found:
            yield replace(image, seen=each.pixels, digits=each.digits, digit=each.digit, box=each.box)


def _name(file: str, error: str | None, digit: int | None = None) -> str | None:
    """What the file is called that holds what the networks saw, without its ending; None where they saw nothing."""
    if error:
        return None
    stem = "stdin" if file == STDIN else Path(file).stem
    return stem if digit is None else f"{stem}-{digit}"


def _save(images: Iterable[ImagePrediction], places: Sequence[Path | None]) -> Iterator[ImagePrediction]:
    """Write what the networks will see, as the images come."""
    for image, place in zip(images, places, strict=True):
        if image.seen is None or place is None:
            yield image
        else:
            write_atomically(place, saved.encode(image.seen))
            yield replace(image, preprocessed=str(place))


def _predict(
    images: list[ImagePrediction], networks: Mapping[Role, Checkpoint], top: int, keep_seen: bool
) -> list[ImagePrediction]:
    """The same images with their predictions."""
    readable = [i for i, image in enumerate(images) if image.seen is not None]
    if not readable:
        return images
    pixels = np.array([images[i].seen for i in readable])
    labels = [images[i].label for i in readable]
    predictions = [classify(network, pixels, top, labels) for network in networks.values()]
    about = next(iter(networks.values())).metadata.data
    for i, seen, *each in zip(readable, pixels, *predictions, strict=True):
        images[i] = replace(
            images[i],
            **dict(zip([role.value for role in networks], each, strict=True)),
            agree=len({prediction.label for prediction in each}) == 1 if len(each) > 1 else None,
            unsure=is_doubtful(each, seen, about),
            seen=images[i].seen if keep_seen else None,
        )
    return images


def _describe(
    probabilities: list[float], classes: tuple[str, ...], top: int, label: str | None, least: float | None
) -> Prediction:
    ranking = sorted(range(len(classes)), key=lambda i: -probabilities[i])
    best = ranking[0]
    return Prediction(
        class_index=best,
        label=classes[best],
        confidence=probabilities[best],
        probabilities=tuple(probabilities),
        top=tuple(RankedClass(i, classes[i], probabilities[i]) for i in ranking[:top]),
        correct=None if label is None else classes[best] == label,
        unlike=None if least is None else probabilities[best] < least,
    )


def _score(images: list[ImagePrediction], role: Role) -> Score:
    predictions = [image.teacher if role is Role.teacher else image.student for image in images]
    marks = [each.correct for each in predictions if each is not None and each.correct is not None]
    return Score(correct=sum(marks), images=len(marks), accuracy=sum(marks) / len(marks) if marks else None)
