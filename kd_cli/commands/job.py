"""Where a command works, and what its results say about that: shared by all commands."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kd_cli import device
from kd_cli.checkpoint import Checkpoint, find, load_checkpoint, path_for
from kd_cli.data import Dataset
from kd_cli.methods import Choice, require_possible
from kd_cli.settings import DatasetName, DeviceName, KdError, Role, Spec

Result = dict[str, Any]
"""What a command reports: the content of its ``--json`` document."""


@dataclass(frozen=True)
class Place:
    """Where a command works: on which data, in which folders, on which device."""

    dataset: DatasetName
    data_dir: Path
    models_dir: Path
    device: DeviceName


def follow(checkpoints: Sequence[Checkpoint], asked: DatasetName) -> DatasetName:
    """The data set to use: the one asked for, else the one that the checkpoints were trained on."""
    if asked is DatasetName.auto and checkpoints:
        return checkpoints[0].metadata.dataset
    return asked


def require_fit(checkpoint: Checkpoint, dataset: Dataset) -> None:
    """Refuse to use a network on pictures other than those it learnt from.

    Raises:
        KdError: another data set, other classes, or another normalisation.
    """
    metadata = checkpoint.metadata
    if metadata.dataset is not dataset.name:
        raise KdError(
            f"{checkpoint.path} was trained on {metadata.dataset.value}, not on {dataset.name.value}: "
            f"use --dataset {metadata.dataset.value}, or another checkpoint"
        )
    if len(metadata.classes) != len(dataset.classes):
        raise KdError(
            f"{checkpoint.path} tells {len(metadata.classes)} classes apart, but {dataset.name.value} has "
            f"{len(dataset.classes)}: use another checkpoint"
        )
    if metadata.normalisation != dataset.normalisation:
        raise KdError(f"{checkpoint.path} was trained on pictures normalised in another way: train it again")


def find_teachers(models_dir: Path, dataset: Dataset, ensemble: int) -> list[Checkpoint]:
    """The data set's teacher, or as many of its ensemble as asked for.

    Raises:
        KdError: one of them is not there.
    """
    worker = dataset.test.images.device
    if ensemble == 1:
        return [load_checkpoint(find(models_dir, dataset.name, Role.teacher), worker)]
    first = path_for(models_dir, dataset.name, Role.teacher)
    paths = [member_path(first, number) for number in range(1, ensemble + 1)]
    for path in paths:
        if not path.exists():
            raise KdError(f"no teacher {path}: run kd train-teacher --ensemble {ensemble} first")
    return [load_checkpoint(path, worker) for path in paths]


def require_teachers(choice: Choice, student: Spec, teachers: Sequence[Checkpoint], dataset: Dataset) -> None:
    """Refuse teachers that a method, or this data set, has no use for.

    Raises:
        KdError: another data set or another number of classes; several teachers, or no maps, where it matters.
    """
    for teacher in teachers:
        require_fit(teacher, dataset)
    require_possible(choice, student, [teacher.metadata.architecture for teacher in teachers])


def member_path(first: Path, number: int) -> Path:
    """Where the members of an ensemble are: teacher.safetensors, teacher-2.safetensors, teacher-3.safetensors, ..."""
    return first if number == 1 else first.with_stem(f"{first.stem}-{number}")


def identify(checkpoint: Checkpoint) -> Result:
    """What every report says of a network that it speaks of."""
    return {
        "role": checkpoint.metadata.role.value,
        "checkpoint": str(checkpoint.path),
        "shipped": checkpoint.shipped,
        "architecture": checkpoint.metadata.architecture,
        "method": checkpoint.metadata.method,
    }


def heading(dataset: Dataset) -> Result:
    """What every report begins with: the data set and the device."""
    return {"dataset": dataset.name.value} | device.describe(dataset.test.images.device)
