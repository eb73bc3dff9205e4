"""Options -> a checked job: data, networks, method and device. What fits together is checked here, and nowhere else."""

import contextlib
from dataclasses import replace
from pathlib import Path

import torch

from kd_cli.commands.checkpoints import find_teachers, open_dataset, open_with, trusted
from kd_cli.commands.job import Job, StudentConfig
from kd_cli.commands.network_files import require_fit
from kd_cli.config import (
    MAX_SEED,
    ConfigError,
    DataConfig,
    DeviceConfig,
    LabelConfig,
    Role,
    TrainingConfig,
    Transfer,
)
from kd_cli.data.classes import choose_classes
from kd_cli.data.dataset import DataInfo, Dataset
from kd_cli.distillation.methods import FROM_LABELS, MethodConfig, require_possible
from kd_cli.networks.build import build_network
from kd_cli.networks.checkpoint import Checkpoint, Reading, load_checkpoint
from kd_cli.networks.classifier import count_parameters
from kd_cli.networks.initial import read_initial
from kd_cli.networks.spec import Spec, parse_spec
from kd_cli.training import device, memory
from kd_cli.training.precision import require_usable

BYTES_PER_PARAMETER = 16
"""While training: a weight, its gradient, and Adam's two averages, in 32 bits each."""


def resolve_teacher(
    architecture: Spec,
    data: DataConfig,
    training: TrainingConfig,
    run: DeviceConfig,
    ensemble: int = 1,
    init: Path | None = None,
) -> Job:
    """The job of a teacher, or of the first of an ensemble, whose members' seeds follow each other.

    Raises:
        ConfigError: the last member's seed would be too large.
        KdError: the data set, the device or the memory is not there.
    """
    if training.seed + ensemble - 1 > MAX_SEED:
        raise ConfigError(
            f"--seed {training.seed} --ensemble {ensemble}: use a smaller seed, the last one is too large"
        )
    initial = read_initial(init) if init else None
    dataset = open_dataset(data, device.select(run.device))
    _require_usable(training, dataset)
    job = Job(Role.teacher, architecture, FROM_LABELS, training, LabelConfig(), dataset, initial=initial)
    _require_buildable(job)
    return job


def resolve_student(config: StudentConfig, needs_teacher: bool = True) -> Job:
    """The job of a student.

    Args:
        config: its options.
        needs_teacher: whether to find the data set's teacher although the method needs none.

    Raises:
        ConfigError: options that contradict each other.
        KdError: the data set, a teacher, the device or the memory is not there; or they do not fit together.
    """
    require_possible(config.method, config.architecture)  # before anything slow
    where = device.select(config.run.device)
    initial = read_initial(config.init) if config.init else None
    needs_teacher = needs_teacher or not config.method.is_baseline
    given = config.teachers.teachers

    def find(dataset: str) -> tuple[Checkpoint, ...]:
        return find_teachers(config.run, dataset, where, config.teachers.ensemble) if needs_teacher else ()

    def load(path: Path, info: DataInfo | None) -> Checkpoint:
        return load_checkpoint(path, where, _reading_of_teachers(config, info))

    dataset, found = open_with(config.data, where, given, load, find)
    _require_usable(config.training, dataset)
    choose_classes(config.labels, dataset.info.classes)
    teachers: tuple[Checkpoint, ...] = ()
    if needs_teacher:
        teachers = tuple(require_fit(teacher, dataset.info, named=bool(given)) for teacher in found)
    job = Job(
        *(config.role, config.architecture, config.method, config.training, config.labels, dataset, teachers),
        *(config.teachers.views, config.teachers.cache_dir, initial),
    )
    return with_student(job, config.architecture, config.method, config.training.seed)


def with_student(job: Job, architecture: Spec, method: MethodConfig, seed: int, lr: float | None = None) -> Job:
    """The same job for another student, method and seed, and for another learning rate unless that is None.

    Raises:
        KdError: they cannot go together.
    """
    require_possible(method, architecture, [teacher.metadata.architecture for teacher in job.teachers])
    _require_labels(method, job.labels)
    _require_compilable(method, job.training)
    training = replace(job.training, seed=seed, lr=job.training.lr if lr is None else lr)
    job = replace(job, architecture=architecture, method=method, training=training)
    _require_buildable(job)
    return job


def _reading_of_teachers(config: StudentConfig, info: DataInfo | None) -> Reading:
    about = config.teachers
    spec = parse_spec(about.teacher_arch) if about.teacher_arch else None
    trust = trusted(config.run, spec, config.architecture)
    return Reading(spec, info, about.teacher_mean, about.teacher_std, trust, prefix="--teacher-")


def _require_labels(method: MethodConfig, labels: LabelConfig) -> None:
    if method.row.needs_labels and labels.train_fraction < 1 and labels.transfer is Transfer.all:
        raise ConfigError(
            f"{method.method} needs the label of every image: use --transfer labelled, or a method such as kd"
        )


def _require_compilable(method: MethodConfig, training: TrainingConfig) -> None:
    if training.compile and method.row.reads_features:
        raise ConfigError(
            f"{method.method} reads layers, which --compile takes apart: leave it out, or use --method kd"
        )


def _require_usable(training: TrainingConfig, dataset: Dataset) -> None:
    """Refuse options that the data set has not got the images for, or the device not the instructions."""
    require_usable(training.precision, dataset.device)
    if training.european_ones and not dataset.info.is_digits:
        raise ConfigError(f"--european-ones adds 1s to digits, and {dataset.info.name} is none: leave it out")
    if training.chooses_epoch and dataset.validation is None:
        flag = "--patience" if training.patience else "--keep-best"
        raise ConfigError(
            f"{flag} looks at validation images, and {dataset.info.name} has none: use --validation-fraction 0.1, too"
        )


def _require_buildable(job: Job) -> None:
    """Find out before anything slow whether the network can be made, with the weights that it starts from."""
    spec, info = job.architecture, job.dataset.info
    # Not a classifier: its division, on "meta", would import torch's compiler, which takes a second.
    with torch.device("meta") if spec.is_reference else contextlib.nullcontext():
        network = build_network(spec, info.shape, len(info.classes))
    parameters = count_parameters(network)
    memory.require_memory(BYTES_PER_PARAMETER * parameters, f"training {spec} ({parameters:,} parameters)")
    if job.initial:
        job.initial.find_head(network, spec, info.classes)
