"""Which data and which checkpoints a command uses, and whether they fit together."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from kd_cli.commands.results import Model
from kd_cli.config import DataConfig, DeviceConfig, KdError, ModelsConfig, Role, RunConfig, some_of
from kd_cli.data import prepared
from kd_cli.data.dataset import DataInfo, Dataset
from kd_cli.data.sources import SOURCES
from kd_cli.networks.checkpoint import (
    Checkpoint,
    Reading,
    checkpoint_path,
    compute_digest,
    find_checkpoint,
    is_plain,
    load_checkpoint,
    require_readable,
)
from kd_cli.networks.spec import Spec, parse_spec
from kd_cli.training import device

log = logging.getLogger(__name__)

FindCheckpoints = Callable[[str], tuple[Checkpoint, ...]]
"""The name of a data set -> its networks. Raises `KdError`."""


def open_dataset(
    data: DataConfig, where: torch.device, checkpoints: Sequence[Checkpoint] = (), train: bool = True
) -> Dataset:
    """The data set that was asked for, else the one that the checkpoints were trained on, on a device.

    Raises:
        KdError: it cannot be had.
    """
    if data.dataset == "auto" and checkpoints:
        data = replace(data, dataset=checkpoints[0].metadata.data.name)
    data = prepared.as_trained(data, [each.metadata.data for each in checkpoints])
    return prepared.load(data, train).to(where)


def open_for_testing(data: DataConfig, run: RunConfig, paths: Sequence[Path]) -> tuple[Dataset, list[Checkpoint]]:
    """The test images, and the given checkpoints or, without any, the data set's teacher and student.

    Raises:
        KdError: one of them is not there, or they do not fit together.
    """
    where, reading = device.select(run.device), _reading_of(run)

    def find(dataset: str) -> tuple[Checkpoint, ...]:
        require_models(run, dataset)
        found = [find_checkpoint(run.models_dir, dataset, role) for role in Role]
        return tuple(load_checkpoint(path, where, reading) for path in found)

    dataset, checkpoints = open_with(data, where, paths, reading, find, train=False)
    return dataset, [require_fit(checkpoint, dataset.info) for checkpoint in checkpoints]


def load_network(path: Path, where: torch.device, run: RunConfig, data: DataInfo | None = None) -> Checkpoint:
    """A checkpoint, read as the options of a command say that trains nothing; ``data`` is that of plain state dicts.

    Raises:
        KdError: it is not there, damaged, or not trusted.
    """
    return load_checkpoint(path, where, replace(_reading_of(run), data=data))


def _reading_of(run: RunConfig) -> Reading:
    spec = parse_spec(run.arch) if run.arch else None
    return Reading(spec, None, run.mean, run.std, trusted(run, spec))


def trusted(run: DeviceConfig, *specs: Spec | None) -> tuple[str, ...]:
    """What the command line trusts: by --trust, or because it names the network itself."""
    return (*run.trust, *(spec.source for spec in specs if spec and spec.is_own))


def open_with(
    data: DataConfig,
    where: torch.device,
    paths: Sequence[Path],
    reading: Reading,
    find: FindCheckpoints,
    train: bool = True,
) -> tuple[Dataset, tuple[Checkpoint, ...]]:
    """A data set, and the checkpoints at ``paths`` or, without any, those that ``find`` has for it.

    A data set that was named says what plain state dicts were trained on. It is opened last, as other checkpoints say
    how it was divided for them.
    """
    named = data.dataset != "auto"
    if not paths:
        found = find(prepared.name_of(data)) if named else ()
        dataset = open_dataset(data, where, found, train)
        return dataset, found or find(dataset.info.name)
    for path in paths:
        require_readable(path)
    loaded = {path: load_checkpoint(path, where, reading) for path in paths if not (named and is_plain(path))}
    dataset = open_dataset(data, where, tuple(loaded.values()), train)
    reading = replace(reading, data=dataset.info)
    return dataset, tuple(loaded.get(path) or load_checkpoint(path, where, reading) for path in paths)


def require_fit(checkpoint: Checkpoint, data: DataInfo, named: bool = False) -> Checkpoint:
    """A network for images like those that it was trained on; its classes in the order of the data's.

    Folders of the same classes go together, with a notice where their images differ.

    Args:
        checkpoint: the network.
        data: the images.
        named: whether the user chose the network for these images, so that they may be of another data set.

    Raises:
        KdError: images of another shape, other classes, or, where neither is a user's own, another data set.
    """
    if not named:
        require_trained_on(checkpoint, data.name)
    require_same_kind(checkpoint, data)
    own, path = checkpoint.metadata.data, checkpoint.path
    if _of_folders(own, data) and own.digest != data.digest:
        log.warning(
            "%s was trained on other images of these classes, or another part of them: "
            "it may know some of the test images",
            path,
        )
    elif own.name != data.name:
        log.warning("%s was trained on %s, and is used on %s", path, own.name, data.name)
    if own.classes == data.classes:
        return checkpoint
    order = tuple(map(own.classes.index, data.classes))
    return replace(
        checkpoint,
        classifier=checkpoint.classifier.reorder(order),
        metadata=replace(checkpoint.metadata, data=replace(own, classes=data.classes)),
        digest=compute_digest({"checkpoint": checkpoint.digest, "order": order}, {}),
    )


def require_trained_on(checkpoint: Checkpoint, dataset: str) -> None:
    """Refuse a network of another data set, where neither is a user's own.

    Raises:
        KdError: names both.
    """
    own = checkpoint.metadata.data.name
    if own != dataset and {own, dataset} <= SOURCES.keys():
        raise KdError(
            f"{checkpoint.path} was trained on {own}, not on {dataset}: use --dataset {own}, or another checkpoint"
        )


def require_same_kind(checkpoint: Checkpoint, data: DataInfo) -> None:
    """Refuse a network for images of another shape, or with other classes.

    Raises:
        KdError: says what is different.
    """
    own, path = checkpoint.metadata.data, checkpoint.path
    if len(own.classes) != len(data.classes):
        raise KdError(
            f"{path} tells {len(own.classes)} classes apart, but {data.name} has {len(data.classes)}: "
            "use another checkpoint"
        )
    if own.shape != data.shape:
        can_resize = _of_folders(own, data) and own.shape[1] == own.shape[2]
        resize = f"--image-size {own.shape[1]}, or " if can_resize else ""
        raise KdError(f"{path} takes images of shape {own.shape}, not {data.shape}: use {resize}another checkpoint")
    if sorted(own.classes) != sorted(data.classes):
        raise KdError(
            f"{path} tells apart {some_of(own.classes, 10)}, but {data.name} has {some_of(data.classes, 10)}: "
            "use another checkpoint"
        )


def _of_folders(*data: DataInfo) -> bool:
    return not {each.name for each in data} & SOURCES.keys()


def require_models(config: ModelsConfig, dataset: str) -> None:
    """Refuse to use the weights that ship in place of those in a folder that was named and has none.

    Raises:
        KdError: the folder is not the default one, and holds nothing for the data set.
    """
    folder = config.models_dir
    if folder == ModelsConfig().models_dir or any(checkpoint_path(folder, dataset, role).exists() for role in Role):
        return
    raise KdError(f"no teacher or student for {dataset} in {folder}: check --models-dir, or leave it out")


def find_teachers(run: DeviceConfig, dataset: str, where: torch.device, ensemble: int) -> tuple[Checkpoint, ...]:
    """The data set's teacher, or as many members of its ensemble as asked for.

    Raises:
        KdError: one of them is not there, or they are not of one ensemble.
    """
    models_dir, reading = run.models_dir, Reading(trust=run.trust)
    if ensemble == 1:
        path = find_checkpoint(models_dir, dataset, Role.teacher)
        return (load_checkpoint(path, where, reading),)
    first = checkpoint_path(models_dir, dataset, Role.teacher)
    paths = [member_path(first, number) for number in range(1, ensemble + 1)]
    retrain = f"run kd train-teacher --ensemble {ensemble} first"
    for path in paths:
        if not path.exists():
            raise KdError(f"no teacher {path}: {retrain}")
    teachers = tuple(load_checkpoint(path, where, reading) for path in paths)
    head = teachers[0].metadata.ensemble
    for number, teacher in enumerate(teachers, start=1):
        if head is None or teacher.metadata.ensemble != replace(head, number=number):
            raise KdError(f"{teacher.path} is not member {number} of one ensemble with {paths[0]}: {retrain}")
    return teachers


def member_path(first: Path, number: int) -> Path:
    """The files of an ensemble's members: teacher.safetensors, teacher-2.safetensors, teacher-3.safetensors, ..."""
    return first if number == 1 else first.with_stem(f"{first.stem}-{number}")


def describe_model(checkpoint: Checkpoint) -> Model:
    """What every result says of a network that it speaks of."""
    return Model(
        role=checkpoint.metadata.role.value,
        checkpoint=str(checkpoint.path),
        shipped=checkpoint.shipped,
        architecture=checkpoint.metadata.architecture,
        method=checkpoint.metadata.method,
        assumed=checkpoint.metadata.assumed,
    )
