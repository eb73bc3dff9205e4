"""Which data and which checkpoints a command uses."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from kd_cli.commands.network_files import Loaded, open_exported, require_fit
from kd_cli.config import DataConfig, DeviceConfig, DeviceName, KdError, ModelsConfig, Role, RunConfig
from kd_cli.data import prepared
from kd_cli.data.dataset import DataInfo, Dataset
from kd_cli.networks.checkpoint import (
    Checkpoint,
    Reading,
    checkpoint_path,
    find_checkpoint,
    is_plain,
    load_checkpoint,
    require_readable,
)
from kd_cli.networks.loaded import LoadedNetwork
from kd_cli.networks.onnx_file import OnnxNetwork, is_onnx
from kd_cli.networks.spec import Spec, parse_spec
from kd_cli.training import device


def open_dataset(
    data: DataConfig, where: torch.device, networks: Sequence[LoadedNetwork] = (), train: bool = True
) -> Dataset:
    """The data set that was asked for, else the one that the networks were trained on, on a device.

    Raises:
        KdError: it cannot be had.
    """
    if data.dataset == "auto" and networks:
        data = replace(data, dataset=networks[0].metadata.data.name)
    data = prepared.as_trained(data, [each.metadata.data for each in networks])
    return prepared.load(data, train).to(where)


def open_for_testing(
    data: DataConfig, run: RunConfig, paths: Sequence[Path], train: bool = False
) -> tuple[Dataset, list[Checkpoint | OnnxNetwork]]:
    """The test images, and the given networks or, without any, the data set's teacher and student.

    Args:
        data: the data set.
        run: where networks are, and how checkpoints are read.
        paths: checkpoints and exported files.
        train: whether to open the training images, too.

    Raises:
        KdError: one of them is not there, or they do not fit together.
    """
    if paths and all(map(is_onnx, paths)) and run.device is DeviceName.auto:
        run = replace(run, device=DeviceName.cpu)  # where exported files run
    return _open_with_images(data, run, paths, load_network, train=train)


def open_checkpoints(
    data: DataConfig, run: RunConfig, paths: Sequence[Path], roles: Sequence[Role] = tuple(Role), train: bool = False
) -> tuple[Dataset, list[Checkpoint]]:
    """As `open_for_testing`, for what needs a network's modules; exported files have none.

    Args:
        data: as there.
        run: as there.
        paths: as there.
        roles: of the data set's networks that are opened where no path is given.
        train: whether to open the training images, too.

    Raises:
        KdError: as there; or one of the files is an exported one.
    """
    return _open_with_images(data, run, paths, read_checkpoint, roles, train)


def _open_with_images(
    data: DataConfig,
    run: RunConfig,
    paths: Sequence[Path],
    load: Callable[[Path, torch.device, RunConfig, DataInfo | None], Loaded],
    roles: Sequence[Role] = tuple(Role),
    train: bool = False,
) -> tuple[Dataset, list[Loaded]]:
    where = device.select(run.device)

    def load_here(path: Path, info: DataInfo | None) -> Loaded:
        return load(path, where, run, info)

    def find(dataset: str) -> tuple[Loaded, ...]:
        require_models(run, dataset)
        return tuple(load_here(path, None) for path in [find_checkpoint(run.models_dir, dataset, r) for r in roles])

    dataset, networks = open_with(data, where, paths, load_here, find, train)
    return dataset, [require_fit(network, dataset.info) for network in networks]


def load_network(
    path: Path, where: torch.device, run: RunConfig, data: DataInfo | None = None
) -> Checkpoint | OnnxNetwork:
    """An exported file, which runs on the CPU; or a checkpoint, as `read_checkpoint` does.

    Raises:
        KdError: it is not there, damaged, or not trusted.
    """
    return open_exported(path, run) if is_onnx(path) else read_checkpoint(path, where, run, data)


def read_checkpoint(path: Path, where: torch.device, run: RunConfig, data: DataInfo | None = None) -> Checkpoint:
    """A checkpoint, read as the options of a command say that trains nothing; ``data`` is that of plain state dicts.

    Raises:
        KdError: it is not there, damaged, or not trusted.
    """
    spec = parse_spec(run.arch) if run.arch else None
    return load_checkpoint(path, where, Reading(spec, data, run.mean, run.std, trusted(run, spec)))


def trusted(run: DeviceConfig, *specs: Spec | None) -> tuple[str, ...]:
    """What the command line trusts: by --trust, or because it names the network itself."""
    return (*run.trust, *(spec.source for spec in specs if spec and spec.is_own))


def open_with(
    data: DataConfig,
    where: torch.device,
    paths: Sequence[Path],
    load: Callable[[Path, DataInfo | None], Loaded],
    find: Callable[[str], tuple[Loaded, ...]],
    train: bool = True,
) -> tuple[Dataset, tuple[Loaded, ...]]:
    """A data set, and the networks at ``paths`` or, without any, those that it has.

    A data set that was named says what plain state dicts were trained on. It is opened last, as other checkpoints say
    how it was divided for them.

    Args:
        data: which data set.
        where: the device that it goes to.
        paths: the networks' files.
        load: a file, and the data of a plain state dict if it is known -> the network.
        find: the name of a data set -> its networks.
        train: whether to open the training images, too.

    Raises:
        KdError: something is not there.
    """
    named = data.dataset != "auto"
    if not paths:
        found = find(prepared.name_of(data)) if named else ()
        dataset = open_dataset(data, where, found, train)
        return dataset, found or find(dataset.info.name)
    for path in paths:
        require_readable(path)
    loaded = {path: load(path, None) for path in paths if not (named and is_plain(path))}
    dataset = open_dataset(data, where, tuple(loaded.values()), train)
    return dataset, tuple(loaded.get(path) or load(path, dataset.info) for path in paths)


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
