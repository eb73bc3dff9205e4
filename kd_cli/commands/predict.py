"""The command that reads pictures: files in, what teacher and student make of them out."""

import glob
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from kd_cli import device, predict
from kd_cli.checkpoint import Checkpoint, find, load_checkpoint
from kd_cli.context import Place, Result, identify
from kd_cli.files import write_atomically
from kd_cli.pictures import SUFFIXES
from kd_cli.predict import STDIN, Picture, Reading
from kd_cli.settings import DatasetName, KdError, Role


def read_pictures(
    place: Place,
    sources: Sequence[str],
    teacher: Path | None,
    student: Path | None,
    top: int = 2,
    labels_from_name: bool = False,
    save_to: Path | None = None,
) -> Result:
    """Read pictures with a teacher and a student. A file that cannot be read has an ``error`` and no readings.

    Args:
        place: where the networks are, and where they compute.
        sources: files, folders, glob patterns, or ``-`` for standard input.
        teacher: its checkpoint, in place of the data set's.
        student: likewise.
        top: how many classes to list of each reading, the most probable first.
        labels_from_name: tell from the names what is right, see `label_from_name`, and count.
        save_to: a folder for what the networks saw, as PNG files.

    Raises:
        KdError: there is no such network, or ``save_to`` cannot be written.
    """
    worker = device.select(place.device)
    name = DatasetName.mnist if place.dataset is DatasetName.auto else place.dataset
    paths = {Role.teacher: teacher, Role.student: student}
    checkpoints = {
        role.value: load_checkpoint(path or find(place.models_dir, name, role), worker) for role, path in paths.items()
    }
    rows, pictures = _decode(list(_expand(sources)))
    if pictures:
        stacked = np.stack(list(pictures.values()))
        for role, checkpoint in checkpoints.items():
            for i, reading in zip(pictures, predict.classify(checkpoint, stacked), strict=True):
                rows[i][role] = _describe(reading, checkpoint.metadata.classes, top)
    for i in pictures:
        rows[i]["agree"] = rows[i]["teacher"]["label"] == rows[i]["student"]["label"]
    result = {
        "dataset": name.value,
        **device.describe(worker),
        "models": [identify(each) for each in checkpoints.values()],
        "pictures": rows,
        "seen": {rows[i]["file"]: picture for i, picture in pictures.items()},
    }
    if labels_from_name:
        result["accuracy"] = _mark(rows, checkpoints)
    if save_to:
        _save(rows, pictures, save_to)
    return result


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
                yield source, f"no pictures in {source}: it has no {', '.join(sorted(SUFFIXES))} files"
        elif glob.has_magic(source):  # quoted, or on Windows, whose shells leave patterns as they are
            found = sorted(Path(match) for match in glob.glob(source, recursive=True) if Path(match).is_file())
            yield from ((str(path), None) for path in found)
            if not found:
                yield source, f"no picture matches {source}: check the pattern"
        else:
            yield source, None  # reading it says what is wrong


def _decode(files: list[tuple[str, str | None]]) -> tuple[list[Result], dict[int, Picture]]:
    """A row for each file, and by the row's number what the networks are to see of it."""
    rows: list[Result] = []
    pictures = {}
    for i, (file, error) in enumerate(
        tqdm(files, unit="picture", disable=None if len(files) > 1 else True, leave=False)
    ):
        if error is None:
            try:
                pictures[i] = predict.read_picture(file)
            except KdError as reason:
                error = str(reason)
        rows.append({"file": file, "error": error})
    return rows, pictures


def _describe(reading: Reading, classes: tuple[str, ...], top: int) -> Result:
    ranking = sorted(range(len(classes)), key=lambda i: -reading.probabilities[i])[:top]
    return {
        "class": reading.class_index,
        "label": classes[reading.class_index],
        "confidence": reading.confidence,
        "probabilities": reading.probabilities,
        "top": [{"class": i, "label": classes[i], "probability": reading.probabilities[i]} for i in ranking],
    }


def _mark(rows: list[Result], checkpoints: dict[str, Checkpoint]) -> Result:
    """Note in each row what is right by its name, and count, by role, over the pictures that were read."""
    counts = {role: {"correct": 0, "pictures": 0} for role in checkpoints}
    for row in rows:
        digit = label_from_name(row["file"])
        row["label"] = None
        for role, checkpoint in checkpoints.items():
            classes = checkpoint.metadata.classes
            if digit is None or digit >= len(classes):
                continue
            row["label"] = classes[digit]
            if row["error"] is None:
                row[role]["correct"] = row[role]["class"] == digit
                counts[role]["correct"] += row[role]["correct"]
                counts[role]["pictures"] += 1
    return counts


def _save(rows: list[Result], pictures: dict[int, Picture], folder: Path) -> None:
    """Write what the networks saw under the name that each file has, with a number where that is taken."""
    taken: set[str] = set()
    for i, picture in pictures.items():
        stem = "stdin" if rows[i]["file"] == STDIN else Path(rows[i]["file"]).stem
        name = stem
        number = 1
        while name.lower() in taken:  # some file systems take A.png for a.png
            number += 1
            name = f"{stem}-{number}"
        taken.add(name.lower())
        png = io.BytesIO()
        Image.fromarray(picture).save(png, "PNG")
        write_atomically(folder / f"{name}.png", png.getvalue())
        rows[i]["preprocessed"] = str(folder / f"{name}.png")
