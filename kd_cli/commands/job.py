"""A training job: everything that one run needs, checked and on the device that computes. `resolve` makes it."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from kd_cli.commands.inputs import inputs_of
from kd_cli.commands.results import Result
from kd_cli.config import (
    DEFAULT_VIEWS,
    DataConfig,
    DeviceConfig,
    KdError,
    LabelConfig,
    LogConfig,
    Role,
    TeacherConfig,
    TrainingConfig,
)
from kd_cli.data.batches import BatchSource
from kd_cli.data.classes import keep_classes
from kd_cli.data.dataset import Dataset, Split, to_pixels
from kd_cli.data.labels import choose_labels
from kd_cli.data.seeds import spawn_seeds
from kd_cli.digits.european import write_european
from kd_cli.distillation.methods import MethodConfig
from kd_cli.distillation.objective import build_objective, locate_layers
from kd_cli.distillation.output_cache import OutputCache
from kd_cli.distillation.teacher_outputs import TeacherOutputs, describe_teachers
from kd_cli.networks.checkpoint import (
    Checkpoint,
)
from kd_cli.networks.classifier import Classifier, build_classifier
from kd_cli.networks.initial import InitialWeights
from kd_cli.networks.spec import Spec, parse_spec
from kd_cli.networks.zoo import library_versions, source_digest
from kd_cli.training import device
from kd_cli.training.group import GROUP_OF_ONE, Group
from kd_cli.training.loop import Callback, Training
from kd_cli.training.tensorboard import TensorBoard
from kd_cli.version import __version__

VERSIONS = {"kd": __version__, "torch": torch.__version__}

STEP_PASSES = 3
"""A training step takes about as many forward passes: one, and twice as much for the gradients."""

CHEAP_MACS = 1_000_000
"""A teacher of fewer multiply-accumulates is live beside any student: what its outputs take is not their arithmetic."""


@dataclass(frozen=True)
class StudentConfig:
    """All options that decide how a student is trained; ``role`` is what it is saved as."""

    architecture: Spec
    method: MethodConfig = MethodConfig()
    teachers: TeacherConfig = TeacherConfig()
    labels: LabelConfig = LabelConfig()
    data: DataConfig = DataConfig()
    training: TrainingConfig = TrainingConfig()
    run: DeviceConfig = DeviceConfig()
    init: Path | None = None
    log: LogConfig = LogConfig()
    role: Role = Role.student


@dataclass(frozen=True)
class Job:
    """A training run before it starts, checked: its parts fit together, and are on the device that computes."""

    role: Role
    architecture: Spec
    method: MethodConfig
    training: TrainingConfig
    labels: LabelConfig
    dataset: Dataset
    teachers: tuple[Checkpoint, ...] = ()
    views: int | None = None
    cache_dir: Path | None = None
    initial: InitialWeights | None = None

    @cached_property
    def teacher_views(self) -> int:
        """Fixed views of each augmented image, whose teacher outputs are computed once; 0: images are augmented anew.

        Unless told, a teacher that costs no more than a step of the student is live.
        """
        if self.method.is_baseline or not self.training.augment:
            return 0
        views = self.views
        if views is None:
            teacher = sum(each.classifier.macs for each in self.teachers)
            views = DEFAULT_VIEWS if teacher > max(CHEAP_MACS, STEP_PASSES * self.build().macs) else 0
        return min(views, self.training.epochs)

    @property
    def source(self) -> str | None:
        """The digest of the code of a user's network."""
        return source_digest(self.architecture.source) if self.architecture.is_own else None

    def build(self) -> Classifier:
        """A fresh network. The same seed gives the same weights, whatever the method."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(spawn_seeds(self.training.seed).initialisation)
            return build_classifier(self.architecture, self.dataset.info)

    def require_layers(self) -> None:
        """Refuse networks without the layers that the method reads.

        Raises:
            KdError: says which, and how to name another.
        """
        if self.method.row.reads_features:
            pixels = to_pixels(self.dataset.test.images[:1])
            try:
                student = self.build().to(self.dataset.device)
                locate_layers(self.method, student, self.teachers[0].classifier, pixels)
            except KdError as error:
                raise KdError(f"{self.architecture} with {self.method.method}: {error}") from error

    def inputs(self) -> Iterator[Path]:
        """The files that the job reads: no output may replace one."""
        weights = [self.initial.path] if self.initial else []
        return inputs_of([*(teacher.path for teacher in self.teachers), *weights], self.dataset)

    def choose_images(self) -> Split:
        """The training images of the classes that are asked for, with the labels that may be used, and added 1s.

        Raises:
            KdError: there is no image of these classes; or 1s are to be added, and there is none to start from.
        """
        images = keep_classes(self.dataset.train, self.labels, self.dataset.info.classes)
        split = choose_labels(images, self.labels, self.training.seed, teacher=not self.method.is_baseline)
        if not self.training.european_ones:
            return split
        return _add_european_ones(split, self.dataset.info.classes.index("1"), self.training.european_ones)

    def compute_outputs(self, quiet: bool = False, group: Group = GROUP_OF_ONE) -> TeacherOutputs:
        """The teachers' outputs for the training images, shared out to ``group``; ``quiet`` without a progress bar."""
        classifiers = [teacher.classifier for teacher in self.teachers]
        identity = describe_teachers([teacher.digest for teacher in self.teachers], classifiers)
        architectures = [teacher.metadata.architecture for teacher in self.teachers]
        identity |= {"device": self.dataset.device.type, "versions": _versions(architectures)}
        cache = OutputCache(self.cache_dir, identity)
        return TeacherOutputs(
            classifiers,
            self.choose_images(),
            self.training.augment,
            self.teacher_views,
            cache,
            quiet,
            self.training.precision,
            group,
        )

    def start(self, outputs: TeacherOutputs | None = None, group: Group = GROUP_OF_ONE) -> Training:
        """A fresh network and everything that trains it. The same seed gives the same network, whatever the method.

        Args:
            outputs: the teachers' outputs where they are known already, from a job with the same images.
            group: the processes that train together.
        """
        config = self.training
        if self.method.is_baseline:
            outputs, images = None, self.choose_images()
        else:
            outputs = outputs or self.compute_outputs(group=group)
            images = outputs.split
        device.make_repeatable()
        network = self.build()
        if self.initial:
            self.initial.load_into(network.network, self.architecture, self.dataset.info.classes)
        network.to(self.dataset.device)
        if config.channels_last is not None:
            network.use_channels_last(config.channels_last)
        objective = build_objective(self.method, outputs, network, config.seed, config.label_smoothing)
        batches = BatchSource(images, config.batch_size, config.seed, config.augment, self.teacher_views, group)
        return Training(network, objective, batches, config, group)

    def log_to(self, log: LogConfig, kind: str = "") -> tuple[Callback, ...]:
        """What writes the run down, if that was asked for; ``kind`` sets some runs apart from others."""
        if log.tensorboard is None:
            return ()
        settings = {"lr": self.training.lr, **self.method.settings, "seed": self.training.seed}
        parts = (
            self.role.value,
            self.architecture.file_name,
            self.method.method,
            *(f"{k}={v}" for k, v in settings.items()),
        )
        folder = log.tensorboard / kind / " ".join(parts)
        return (TensorBoard(folder, self.options(), "validation" if self.dataset.validation else "test"),)

    def options(self) -> dict[str, Any]:
        """What the run was told, as plain values: for the checkpoint, and for reports."""
        options: dict[str, Any] = asdict(self.training) | {"augment": list(self.training.augment)}
        options |= {"method": self.method.method} | self.method.settings
        if self.dataset.validation is not None:
            options["validation_images"] = len(self.dataset.validation)
        if self.labels != LabelConfig():
            labels = asdict(self.labels)
            options |= labels | {name: list(labels[name]) for name in ("omit_class", "only_classes")}
        if self.teacher_views:
            options["teacher_views"] = self.teacher_views
        if self.teachers:
            options["teachers"] = [str(teacher.path) for teacher in self.teachers]
        if self.initial:
            options["init"] = str(self.initial.path)
        return options

    def identity(self) -> dict[str, Any]:
        """All that decides what the run computes; equal identities, equal weights."""
        architectures = [str(self.architecture), *(teacher.metadata.architecture for teacher in self.teachers)]
        return {
            "role": self.role,
            "architecture": str(self.architecture),
            "method": self.method.method,
            **self.method.settings,
            **asdict(self.training),
            **asdict(self.labels),
            "teacher_views": self.teacher_views,
            "dataset": self.dataset.info.name,
            "data": self.dataset.info.digest,
            "validation": len(self.dataset.validation or ()),  # which images these are is fixed
            "teachers": [teacher.digest for teacher in self.teachers],
            "init": self.initial and self.initial.digest,
            "source": self.source,
            "device": self.dataset.device.type,
            "versions": _versions(architectures),
        }


def _versions(architectures: Iterable[str]) -> dict[str, str]:
    """What else decides the bits of what is computed; of networks that are not ours, the libraries' code, too."""
    ours = all(parse_spec(architecture).is_reference for architecture in architectures)
    return VERSIONS if ours else VERSIONS | library_versions()


def heading(dataset: Dataset, threads: int | None = None, processes: int = 1) -> Result:
    """What every result begins with; ``threads`` and ``processes`` as for `device.describe`."""
    return Result(dataset.info.name, *device.describe(dataset.device, threads, processes))


def _add_european_ones(split: Split, label: int, count: int) -> Split:
    """The same images in every run, so that runs share a teacher's outputs for them."""
    ones = split.images[split.labels == label].squeeze(1)
    drawn = torch.from_numpy(write_european(ones.cpu().numpy(), count, seed=0)).unsqueeze(1)
    if len(drawn) < count:
        raise KdError("--european-ones: none of the training images is a 1 without a flag; leave it out")
    return Split(
        torch.cat([split.images, drawn.to(split.images.device)]),
        torch.cat([split.labels, split.labels.new_full((count,), label)]),
    )
