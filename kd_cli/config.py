"""The words of the command line: data sets, architecture specs, devices, and the training settings.

Free of torch, so that the command line can check its options before anything slow is imported.
"""

import re
from dataclasses import dataclass
from enum import Enum

ECE_BINS = 15
"""Bins of confidence, of equal width, in which calibration is measured."""

LATENCY_THREADS = 1
"""For one picture there is too little work to share; on a busy machine, threads would wait for each other."""

THROUGHPUT_BATCH = 500
"""Pictures at a time where throughput is measured."""


class KdError(Exception):
    """An expected failure. Its message is one line that says what to do next."""


class RunStoppedError(KdError):
    """The user stopped a run. The message says what is kept and how to go on."""


class DatasetName(str, Enum):
    """What ``--dataset`` accepts; ``auto`` is MNIST where it can be had, else the bundled digits."""

    auto = "auto"
    mnist = "mnist"
    fashion_mnist = "fashion-mnist"
    kmnist = "kmnist"
    digits = "digits"


class DeviceName(str, Enum):
    """What ``--device`` accepts; ``auto`` is the first of cuda, mps and cpu that is there."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"
    mps = "mps"


class Schedule(str, Enum):
    """How the learning rate moves from its peak: not at all, down a half cosine, or up and down."""

    constant = "constant"
    cosine = "cosine"
    one_cycle = "one-cycle"


class Cost(str, Enum):
    """What a picture of a comparison shows accuracy against."""

    macs = "macs"
    parameters = "parameters"


class Role(str, Enum):
    """The part that a network plays; also the name of its checkpoint file."""

    teacher = "teacher"
    student = "student"


@dataclass(frozen=True)
class TrainingSettings:
    """What a training run is told. The defaults here are the defaults of the command line."""

    epochs: int = 5
    batch_size: int = 64
    lr: float = 1e-3
    schedule: Schedule = Schedule.one_cycle
    augment: bool = False
    seed: int = 0
    warp: bool = False

    @property
    def always_new(self) -> bool:
        """Whether a picture looks different in every epoch."""
        return self.augment or self.warp


class Transfer(str, Enum):
    """Which training pictures a student sees where only some have labels: those, or all of them."""

    labelled = "labelled"
    all = "all"


@dataclass(frozen=True)
class LabelBudget:
    """How many of the training labels may be used (a fraction, drawn by class), and what becomes of the others."""

    fraction: float = 1.0
    transfer: Transfer = Transfer.labelled


@dataclass(frozen=True)
class Spec:
    """An architecture, e.g. ``cnn-32`` (32 filters) or ``mlp-800-800`` (two hidden layers of 800)."""

    family: str
    sizes: tuple[int, ...]

    def __str__(self) -> str:
        return "-".join([self.family, *map(str, self.sizes)])


MAX_LAYER_SIZE = 65_536
"""Larger layers are refused: a typing slip or a hostile file, not a network for 28x28 pictures."""


def parse_spec(text: str) -> Spec:
    """Read an architecture spec: ``cnn-N`` (N filters) or ``mlp-N[-M...]`` (hidden layer sizes).

    Raises:
        KdError: the text is no spec, or asks for a layer that is empty or absurdly large.
    """
    if not re.fullmatch(r"cnn-[0-9]{1,6}|mlp(-[0-9]{1,6}){1,16}", text, re.ASCII):
        raise KdError(f"unknown architecture {text!r}: use cnn-N, e.g. cnn-32, or mlp-N[-M...], e.g. mlp-128")
    family, *sizes = text.split("-")
    spec = Spec(family, tuple(map(int, sizes)))
    if not all(1 <= size <= MAX_LAYER_SIZE for size in spec.sizes):
        raise KdError(f"architecture {text!r}: every size must be between 1 and {MAX_LAYER_SIZE:,}")
    return spec
