"""``kd predict``: image files in, what teacher and student predict for them out."""

import glob
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from kd_cli.commands.job import describe_model, require_models
from kd_cli.commands.results import ImagePrediction, Prediction, PredictionResult, RankedClass, Score
from kd_cli.config import KdError, Role, RunConfig
from kd_cli.data.prepared import require_known
from kd_cli.digits import saved
from kd_cli.digits.decode import SUFFIXES
from kd_cli.digits.mnist_format import STDIN, Image28, read_image
from kd_cli.files import require_output, write_atomically
from kd_cli.networks.checkpoint import Checkpoint, find_checkpoint, load_checkpoint
from kd_cli.networks.classifier import compute_logits
from kd_cli.training import device

NOTHING: Image28 = np.zeros((28, 28), np.uint8)
"""Stands in a batch for an image that cannot be read."""


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
) -> PredictionResult:
    """Predict with a teacher and a student. A file that cannot be read has an ``error`` and no predictions.

    Args:
        data: the name of the data set that the networks were trained on; ``auto`` is MNIST.
        run: where the networks are, and where they compute.
        sources: files, folders, glob patterns, or ``-`` for standard input.
        teacher: its checkpoint, in place of the data set's.
        student: likewise.
        top: how many classes to list for each image, the most probable first.
        labels_from_name: take labels from the files' names, see `label_from_name`, and count correct predictions.
        save_to: a folder for what the networks saw, as PNG files.
        force: replace files there that this program did not write; never one that it reads.

    Raises:
        ConfigError: there is no such data set.
        KdError: there is no such network, or ``save_to`` cannot be written, or a file there would be lost.
    """
    require_known(data)
    dataset = "mnist" if data == "auto" else data
    target = device.select(run.device)
    paths = {Role.teacher: teacher, Role.student: student}
    if not all(paths.values()):
        require_models(run, dataset)
    networks = [
        load_checkpoint(path or find_checkpoint(run.models_dir, dataset, role), target, run.mean, run.std)
        for role, path in paths.items()
    ]
    images = _read(list(_expand(sources)))
    if save_to:
        inputs = [Path(image.file) for image in images] + [network.path for network in networks]
        images = _save(images, save_to, inputs, force)
    labels = [label_from_name(image.file) if labels_from_name else None for image in images]
    seen = np.array([NOTHING if image.seen is None else image.seen for image in images]).reshape(-1, *NOTHING.shape)
    predictions = [classify(network, seen, top, labels) for network in networks]
    classes = networks[-1].metadata.data.classes
    for i, (label, by_teacher, by_student) in enumerate(zip(labels, *predictions, strict=True)):
        if label is not None and label < len(classes):
            images[i] = replace(images[i], label=classes[label])
        if images[i].seen is not None:
            agree = by_teacher.label == by_student.label
            images[i] = replace(images[i], teacher=by_teacher, student=by_student, agree=agree)
    return PredictionResult(
        dataset,
        *device.describe(target),
        models=tuple(map(describe_model, networks)),
        images=tuple(images),
        accuracy={role.value: _score(images, role) for role in paths} if labels_from_name else None,
    )


def classify(
    checkpoint: Checkpoint, images: NDArray[np.uint8], top: int = 1, labels: Sequence[int | None] | None = None
) -> list[Prediction]:
    """Predict with one network.

    Args:
        checkpoint: the network.
        images: as MNIST has them, (N, 28, 28).
        top: how many classes to list for each image, the most probable first.
        labels: the class of each image, where it is known.
    """
    classes = checkpoint.metadata.data.classes
    place = next(checkpoint.classifier.parameters()).device
    with torch.inference_mode():
        logits = compute_logits(checkpoint.classifier, torch.from_numpy(images).unsqueeze(1).to(place))
    rows = logits.cpu().double().softmax(dim=1).tolist()  # not every device has float64
    return [_describe(row, classes, top, label) for row, label in zip(rows, labels or [None] * len(rows), strict=True)]


def label_from_name(file: str) -> int | None:
    """The digit that a file's folder is called (``7/a.png``), or else that stands at the beginning of its own name.

    There it stands alone (``7.png``) or before what is neither letter nor digit (``7-a.png``): 12.png shows no 1.
    """
    path = Path(file)
    found = re.fullmatch("[0-9]", path.parent.name) or re.match(r"[0-9](?![^\W_])", path.name)
    return int(found[0]) if found else None


def _expand(sources: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    """Each file to read; and an error in place of what is not there, and of folders that cannot be read."""
    for source in sources:
        if source == STDIN or os.path.isfile(source):
            yield source, None
        elif os.path.isdir(source):
            yield from _walk(source)
        elif glob.has_magic(source):  # quoted, or on Windows, whose shells leave patterns as they are
            yield from _match(source)
        else:
            yield source, None  # reading it says what is wrong


def _walk(folder: str) -> Iterator[tuple[str, str | None]]:
    """All images in a folder and below it."""
    errors: list[OSError] = []
    files = [Path(place, name) for place, _, names in os.walk(folder, onerror=errors.append) for name in names]
    found = sorted(path for path in files if path.suffix.lower() in SUFFIXES and os.path.isfile(path))
    yield from ((str(path), None) for path in found)
    yield from ((error.filename, _unreadable(error.filename, str(error.strerror))) for error in errors)
    if not found and not errors:
        yield folder, f"no images in {folder}: it has no {', '.join(sorted(SUFFIXES))} files"


def _match(pattern: str) -> Iterator[tuple[str, str | None]]:
    """All files that match a pattern. Folders that cannot be read match nothing, unsaid by `glob`."""
    found = sorted(Path(match) for match in glob.glob(pattern, recursive=True) if os.path.isfile(match))
    folders = sorted(filter(os.path.isdir, glob.glob(os.path.dirname(pattern), recursive=True)))
    unreadable = [folder for folder in folders if not os.access(folder, os.R_OK | os.X_OK)]
    yield from ((str(path), None) for path in found)
    yield from ((folder, _unreadable(folder, "Permission denied")) for folder in unreadable)
    if not found and not unreadable:
        yield pattern, f"no image matches {pattern}: check the pattern"


def _unreadable(folder: str, reason: str) -> str:
    return f"cannot read folder {folder}: {reason}; check its permissions, or leave it out"


def _read(sources: list[tuple[str, str | None]]) -> list[ImagePrediction]:
    """What the networks will see of each file, or why it cannot be read; the predictions are still missing."""
    images = []
    for file, error in tqdm(sources, unit="image", disable=None if len(sources) > 1 else True, leave=False):
        seen = None
        if error is None:
            try:
                seen = read_image(file)
            except KdError as reason:
                error = str(reason)
        images.append(ImagePrediction(file, error, None, None, None, None, None, seen))
    return images


def _save(images: list[ImagePrediction], folder: Path, inputs: Sequence[Path], force: bool) -> list[ImagePrediction]:
    """Write what the networks will see, after making sure that no file of the user's is in its place."""
    read = {_identify(path): path for path in inputs}
    places = [folder / name if name else None for name in _choose_names(images)]
    for place in filter(None, places):
        same = read.get(_identify(place))
        require_output(place, saved.is_ours, [same] if same else [], force)
    done = []
    for image, path in zip(images, places, strict=True):
        if path is not None and image.seen is not None:
            write_atomically(path, saved.encode(image.seen))
            image = replace(image, preprocessed=str(path))
        done.append(image)
    return done


def _choose_names(images: list[ImagePrediction]) -> Iterator[str | None]:
    """A name for each image that could be read: that of its file, with a number where it is taken."""
    taken: set[str] = set()
    for image in images:
        if image.seen is None:
            yield None
            continue
        stem = "stdin" if image.file == STDIN else Path(image.file).stem
        name = stem
        number = 1
        while name.lower() in taken:  # some file systems take A.png for a.png
            number += 1
            name = f"{stem}-{number}"
        taken.add(name.lower())
        yield f"{name}.png"


def _identify(path: Path) -> object:
    """Equal for two paths of one file, however they are written; and for a path where there is none, the path."""
    try:
        status = os.stat(path)
    except OSError:
        return path
    return status.st_dev, status.st_ino


def _describe(probabilities: list[float], classes: tuple[str, ...], top: int, label: int | None) -> Prediction:
    ranking = sorted(range(len(classes)), key=lambda i: -probabilities[i])
    best = ranking[0]
    return Prediction(
        class_index=best,
        label=classes[best],
        confidence=probabilities[best],
        probabilities=tuple(probabilities),
        top=tuple(RankedClass(i, classes[i], probabilities[i]) for i in ranking[:top]),
        correct=best == label if label in range(len(classes)) else None,
    )


def _score(images: list[ImagePrediction], role: Role) -> Score:
    predictions = [image.teacher if role is Role.teacher else image.student for image in images]
    marks = [each.correct for each in predictions if each is not None and each.correct is not None]
    return Score(correct=sum(marks), images=len(marks), accuracy=sum(marks) / len(marks) if marks else None)
