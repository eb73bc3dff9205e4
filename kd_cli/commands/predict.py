"""``kd predict``: image files in, what teacher and student predict for them out."""

import glob
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from kd_cli.commands.job import describe_model
from kd_cli.commands.results import ImagePrediction, Prediction, PredictionResult, RankedClass, Score
from kd_cli.config import KdError, Role, RunConfig
from kd_cli.data.prepared import require_known
from kd_cli.digits.decode import SUFFIXES
from kd_cli.digits.mnist_format import STDIN, Image28, read_image
from kd_cli.files import write_atomically
from kd_cli.networks.checkpoint import Checkpoint, find_checkpoint, load_checkpoint
from kd_cli.networks.classifier import compute_logits
from kd_cli.training import device


@dataclass(frozen=True)
class _File:
    """An image file: what the networks will see of it, or the error that kept it from being read."""

    name: str
    error: str | None
    seen: Image28 | None


def predict(
    data: str,
    run: RunConfig,
    sources: Sequence[str],
    teacher: Path | None = None,
    student: Path | None = None,
    top: int = 2,
    labels_from_name: bool = False,
    save_to: Path | None = None,
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

    Raises:
        ConfigError: there is no such data set.
        KdError: there is no such network, or ``save_to`` cannot be written.
    """
    require_known(data)
    dataset = "mnist" if data == "auto" else data
    target = device.select(run.device)
    paths = {Role.teacher: teacher, Role.student: student}
    networks = [
        load_checkpoint(path or find_checkpoint(run.models_dir, dataset, role), target) for role, path in paths.items()
    ]
    files = _read(list(_expand(sources)))
    saved = _save(files, save_to) if save_to else [None] * len(files)
    predictions = [_classify(network, files, top, labels_from_name) for network in networks]
    classes = networks[-1].metadata.data.classes
    images = []
    for file, preprocessed, teachers, students in zip(files, saved, *predictions, strict=True):
        label = _label(file.name, classes) if labels_from_name else None
        images.append(
            ImagePrediction(
                file=file.name,
                error=file.error,
                label=None if label is None else classes[label],
                teacher=teachers,
                student=students,
                agree=teachers.label == students.label if teachers and students else None,
                preprocessed=preprocessed,
                seen=file.seen,
            )
        )
    accuracy = {role.value: _score(each) for role, each in zip(paths, predictions, strict=True)}
    return PredictionResult(
        dataset,
        *device.describe(target),
        models=tuple(map(describe_model, networks)),
        images=tuple(images),
        accuracy=accuracy if labels_from_name else None,
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
    """The digit that a file's folder is called (``7/a.png``), or else that its own name starts with (``7-a.png``)."""
    path = Path(file)
    for name in (path.parent.name, path.name[:1]):
        if len(name) == 1 and name in "0123456789":
            return int(name)
    return None


def _expand(sources: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    """Each file to read, and an error in place of those that are not there; folders with all that is in them."""
    for source in sources:
        if source == STDIN or Path(source).is_file():
            yield source, None
        elif Path(source).is_dir():
            found = sorted(p for p in Path(source).rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
            yield from ((str(path), None) for path in found)
            if not found:
                yield source, f"no images in {source}: it has no {', '.join(sorted(SUFFIXES))} files"
        elif glob.has_magic(source):  # quoted, or on Windows, whose shells leave patterns as they are
            found = sorted(Path(match) for match in glob.glob(source, recursive=True) if Path(match).is_file())
            yield from ((str(path), None) for path in found)
            if not found:
                yield source, f"no image matches {source}: check the pattern"
        else:
            yield source, None  # reading it says what is wrong


def _read(sources: list[tuple[str, str | None]]) -> list[_File]:
    files = []
    for name, error in tqdm(sources, unit="image", disable=None if len(sources) > 1 else True, leave=False):
        seen = None
        if error is None:
            try:
                seen = read_image(name)
            except KdError as reason:
                error = str(reason)
        files.append(_File(name, error, seen))
    return files


def _save(files: list[_File], folder: Path) -> list[str | None]:
    """Write what the networks will see under the name that each file has, with a number where that is taken."""
    saved: list[str | None] = []
    taken: set[str] = set()
    for file in files:
        if file.seen is None:
            saved.append(None)
            continue
        stem = "stdin" if file.name == STDIN else Path(file.name).stem
        name = stem
        number = 1
        while name.lower() in taken:  # some file systems take A.png for a.png
            number += 1
            name = f"{stem}-{number}"
        taken.add(name.lower())
        png = io.BytesIO()
        Image.fromarray(file.seen).save(png, "PNG")
        write_atomically(folder / f"{name}.png", png.getvalue())
        saved.append(str(folder / f"{name}.png"))
    return saved


def _classify(network: Checkpoint, files: list[_File], top: int, labels_from_name: bool) -> list[Prediction | None]:
    """A network's prediction for each file that could be read."""
    readable = [(file.name, file.seen) for file in files if file.seen is not None]
    if not readable:
        return [None] * len(files)
    names, images = zip(*readable, strict=True)
    classes = network.metadata.data.classes
    labels = [_label(name, classes) if labels_from_name else None for name in names]
    predictions = iter(classify(network, np.stack(images), top, labels))
    return [None if file.seen is None else next(predictions) for file in files]


def _label(name: str, classes: tuple[str, ...]) -> int | None:
    digit = label_from_name(name)
    return digit if digit is not None and digit < len(classes) else None


def _describe(probabilities: list[float], classes: tuple[str, ...], top: int, label: int | None) -> Prediction:
    ranking = sorted(range(len(classes)), key=lambda i: -probabilities[i])
    best = ranking[0]
    return Prediction(
        class_index=best,
        label=classes[best],
        confidence=probabilities[best],
        probabilities=tuple(probabilities),
        top=tuple(RankedClass(i, classes[i], probabilities[i]) for i in ranking[:top]),
        correct=None if label is None else best == label,
    )


def _score(predictions: list[Prediction | None]) -> Score:
    marked = [each.correct for each in predictions if each is not None and each.correct is not None]
    return Score(correct=sum(marked), images=len(marked))
