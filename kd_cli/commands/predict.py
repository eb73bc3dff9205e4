"""``kd predict``: image files in, what teacher and student predict for them out."""

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from kd_cli.commands.classify import classify, is_doubtful
from kd_cli.commands.image_files import STDIN, Found, Seen, find_images, label_from_name, open_image, see
from kd_cli.commands.inputs import inputs_of
from kd_cli.commands.network_files import describe_model, open_exported, require_same_images
from kd_cli.commands.results import ImagePrediction, PredictionResult, Score
from kd_cli.config import ConfigError, DataConfig, KdError, Role, RunConfig
from kd_cli.data.dataset import DataInfo
from kd_cli.digits import saved
from kd_cli.files import require_no_input, write_atomically
from kd_cli.networks.loaded import LoadedNetwork
from kd_cli.networks.onnx_file import RUNTIME, is_onnx

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
    model: Path | None = None,
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
        teacher: its checkpoint or exported file, in place of the data set's.
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
        model: a network that predicts alone, whatever its role.

    Raises:
        ConfigError: there is no such data set, or it is not of digits and ``every_digit`` is given.
        KdError: there is no such network, it is of another data set, the two take different images, or ``save_to``
            cannot be written, or a file would be lost.
    """
    networks, device = _open(DataConfig(data, data_dir), run, teacher, student, model)
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
        *device,
        models=tuple(replace(describe_model(network), role=role.value) for role, network in networks.items()),
        images=tuple(images),
        accuracy={role.value: _score(images, role) for role in networks} if labels_from_name else None,
        every_digit=every_digit,
    )


def _open(
    data: DataConfig, run: RunConfig, teacher: Path | None, student: Path | None, model: Path | None
) -> tuple[dict[Role, LoadedNetwork], tuple[str, str]]:
    """The networks, and the device that they compute on, as programs and as people call it."""
    if model and (teacher or student):
        raise ConfigError("--model predicts alone: leave out --teacher and --student")
    given = {Role.student: model} if model else {Role.teacher: teacher, Role.student: student}
    exported = {role: path for role, path in given.items() if path is not None and is_onnx(path)}
    networks: dict[Role, LoadedNetwork]
    if exported.keys() == given.keys() and data.dataset == "auto":
        networks, device = {role: open_exported(path, run) for role, path in exported.items()}, RUNTIME
    else:
        from kd_cli.commands.choose_networks import choose_networks  # imports torch
        from kd_cli.training.device import describe, select

        where = select(run.device)
        networks, device = choose_networks(data, run, given, where), describe(where)
    require_same_images(list(networks.values()))
    return {network.metadata.role: network for network in networks.values()} if model else networks, device


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
    images: list[ImagePrediction], networks: Mapping[Role, LoadedNetwork], top: int, keep_seen: bool
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


def _score(images: list[ImagePrediction], role: Role) -> Score:
    predictions = [image.teacher if role is Role.teacher else image.student for image in images]
    marks = [each.correct for each in predictions if each is not None and each.correct is not None]
    return Score(correct=sum(marks), images=len(marks), accuracy=sum(marks) / len(marks) if marks else None)
