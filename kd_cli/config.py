"""Configurations: what a command is told. Free of torch.

A field states an option once: its help text, its bounds and its default. `options` turns fields into options of the
command line. A configuration checks its bounds when it is made, so one that exists is valid, wherever it came from.
Options that need knowledge of a wing are configured there: methods in `distillation.methods`, specs in `networks.spec`.
"""

import dataclasses
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any

LATENCY_THREADS = 1
"""One image is too little work to share; on a busy machine, threads would wait for each other."""

THROUGHPUT_BATCH = 500
"""Images at a time where throughput is measured."""

FORWARD_CHUNK = 500
"""Images per forward pass where no gradients are needed: as fast as all at once, and 60 MB at most."""

ECE_BINS = 15
"""Bins of confidence, of equal width, in which calibration is measured."""

MAX_SEED = 2**32 - 1

DEFAULT_VIEWS = 8
"""Fixed views of an augmented image under an expensive teacher: they match a live one (Shen & Xing 2022)."""

AUGMENTATIONS = ("shift", "warp", "flip-crop", "resized-crop")
"""What ``--augment`` accepts, in the order in which several are applied; `data.augmentation` says what each does."""

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of the channels red, green and blue, as torchvision's and most published weights expect."""


class KdError(Exception):
    """An expected failure. Its message is one line that says what to do next."""


class ConfigError(KdError):
    """A configuration that cannot be used: a usage error on the command line."""


class RunStoppedError(KdError):
    """The user stopped a run. The message says what is kept and how to go on."""


class DeviceName(str, Enum):
    """What ``--device`` accepts; ``auto`` is the first of cuda, mps and cpu that is there."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"
    mps = "mps"


class Schedule(str, Enum):
    """How the learning rate moves: not at all, down a half cosine, or up and down."""

    constant = "constant"
    cosine = "cosine"
    one_cycle = "one-cycle"


class OptimiserName(str, Enum):
    """What turns gradients into updates: ``sgd`` has momentum, ``adamw`` keeps weight decay out of the gradient."""

    adam = "adam"
    adamw = "adamw"
    sgd = "sgd"


class TrainingPrecision(str, Enum):
    """The numbers that the networks of a training step compute with; weights and losses always have 32 bits."""

    fp32 = "fp32"
    bf16 = "bf16"
    fp16 = "fp16"


class Transfer(str, Enum):
    """Which training images a student sees where only some have labels: those, or all of them."""

    labelled = "labelled"
    all = "all"


class CostAxis(str, Enum):
    """What the plot of a comparison shows accuracy against."""

    macs = "macs"
    parameters = "parameters"


class Precision(str, Enum):
    """The numbers that an exported network computes with."""

    float32 = "float32"
    float16 = "float16"
    int8 = "int8"


class ExportFormat(str, Enum):
    """What ``--format`` accepts: ONNX, which many programs run, or what ``torch.export`` saves."""

    onnx = "onnx"
    pt2 = "pt2"


class Runtime(str, Enum):
    """What runs a network; ``--runtimes`` accepts these names."""

    torch = "torch"
    torch_compile = "torch-compile"
    onnx = "onnx"
    onnx_int8 = "onnx-int8"


class Role(str, Enum):
    """The part that a network plays; also the name of its checkpoint file."""

    teacher = "teacher"
    student = "student"


def suggest(name: str, names: Collection[str], most: int = 1, cutoff: float = 0.6) -> str:
    """A question for those of the names that are most similar, e.g. ``did you mean kd?``; empty if none is."""
    import difflib

    similar = difflib.get_close_matches(name, names, most, cutoff)
    return f"did you mean {' or '.join(similar)}?" if similar else ""


def some_of(names: Collection[str], most: int = 3) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(list(names)[:most]) + more


def require_name(what: str, name: str, names: Collection[str], otherwise: str = "") -> None:
    """Refuse a name that is not one of those that there are; ``otherwise`` says what else could be given.

    Raises:
        ConfigError: names all of them, and the most similar one.
    """
    if name in names:
        return
    hint = suggest(name, names)
    raise ConfigError(f"unknown {what} {name!r}{f' ({hint})' if hint else ''}: use {', '.join(names)}{otherwise}")


@dataclass(frozen=True)
class Option:
    """An option of the command line, beside the name, type and default of the field that it belongs to.

    Attributes:
        help: one line.
        minimum: the least value.
        above: a bound that the value must exceed.
        maximum: the largest value.
        short: a short form, e.g. ``-e``.
        env: an environment variable that gives a default.
        metavar: what the help text shows in place of the type.
        flag: the option's name where it is not the field's.
        read: turns the option's text into the value; raises `KdError`.
    """

    help: str
    minimum: float | None = None
    above: float | None = None
    maximum: float | None = None
    short: str | None = None
    env: str | None = None
    metavar: str | None = None
    flag: str | None = None
    read: Callable[[str], Any] | None = None

    def check(self, name: str, value: Any) -> None:
        """Refuse a number, or a tuple with one, that is out of bounds.

        Raises:
            ConfigError: names the option and the numbers that it takes.
        """
        for number in value if isinstance(value, tuple) else (value,):
            if not isinstance(number, int | float):
                continue
            least = -math.inf if self.minimum is None else self.minimum
            most = math.inf if self.maximum is None else self.maximum
            if not (least <= number <= most and math.isfinite(number) and (self.above is None or number > self.above)):
                raise ConfigError(f"--{self.flag or name.replace('_', '-')} {number}: use {self._bounds()}")

    def _bounds(self) -> str:
        if self.above is not None:
            return f"a number above {self.above:,}" + (f", at most {self.maximum:,}" if self.maximum else "")
        if self.maximum is not None:
            return f"a number from {self.minimum or 0:,} to {self.maximum:,}"
        return f"{self.minimum:,} or more" if self.minimum is not None else "a finite number"


def option(default: Any, help: str, **details: Any) -> Any:
    """A field of a configuration that is an option of the command line; ``details`` are `Option`'s other fields."""
    return dataclasses.field(default=default, metadata={"option": Option(help, **details)})


@dataclass(frozen=True)
class Config:
    """What all configurations share: their fields are options, and their bounds are checked."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            field.metadata["option"].check(field.name, getattr(self, field.name))


def as_arguments(*configs: Config) -> list[str]:
    """The arguments of the command line that make these configurations, but for what is the default."""
    arguments = []
    for config in configs:
        for field in dataclasses.fields(config):
            value = getattr(config, field.name)
            if value == field.default:
                continue
            about: Option = field.metadata["option"]
            flag = "--" + (about.flag or field.name.replace("_", "-"))
            if isinstance(value, bool):
                arguments.append(flag if value else f"--no-{flag[2:]}")
            elif isinstance(value, tuple) and about.read is None:
                arguments += [part for each in value for part in (flag, str(each))]
            else:
                arguments += [flag, as_text(value)]
    return arguments


def as_text(value: Any) -> str:
    """A value as the command line reads it."""
    if isinstance(value, Enum):
        return str(value.value)
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def parse_augment(text: str) -> tuple[str, ...]:
    """The augmentations that a text names, separated by commas, in the order of `AUGMENTATIONS`.

    Raises:
        ConfigError: one of them does not exist.
    """
    return _read_names("augmentation", text, AUGMENTATIONS)


def _read_names(what: str, text: str, known: Sequence[str]) -> tuple[str, ...]:
    """The names in a text, separated by commas, in the order of those that are known."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        require_name(what, name, known)
    return tuple(name for name in known if name in names)


@dataclass(frozen=True)
class TrainingConfig(Config):
    """How a network is trained."""

    epochs: int = option(5, "Times that every training image is shown.", short="-e", minimum=1, maximum=1_000_000)
    batch_size: int = option(64, "Images per training step.", minimum=1, maximum=1_000_000)
    lr: float = option(1e-3, "Learning rate; one-cycle rises to four times it. With sgd, try 0.01.", above=0)
    schedule: Schedule = option(Schedule.one_cycle, "How the learning rate moves.")
    augment: tuple[str, ...] = option(
        (),
        "Change each image, anew in every epoch: shift, warp, flip-crop, resized-crop, or several, e.g. shift,warp.",
        metavar="NAMES",
        read=parse_augment,
    )
    european_ones: int = option(
        0,
        "Add N training images of 1s with a long flag, as much of Europe writes them. For digits.",
        metavar="N",
        minimum=0,
        maximum=1_000_000,
    )
    seed: int = option(0, "Same seed, same machine: same weights.", short="-s", minimum=0, maximum=MAX_SEED)
    patience: int | None = option(
        None,
        "Stop after N epochs without a better validation accuracy, and keep the best one (see --validation-fraction).",
        minimum=1,
        maximum=1_000_000,
    )
    keep_best: bool = option(False, "Keep the epoch with the best validation accuracy rather than the last one.")
    optimiser: OptimiserName = option(OptimiserName.adam, "Adam, AdamW, or SGD with momentum 0.9.")
    weight_decay: float | None = option(
        None,
        "Pull weights towards 0: by the gradient (L2), or beside it with adamw. Default: 0.01 with adamw, else 0.",
        minimum=0,
        maximum=10,
    )
    label_smoothing: float = option(0.0, "Share of each label that is spread over all classes.", minimum=0, maximum=0.9)
    accumulate: int = option(
        1,
        "Average the gradients of N batches for each update, as one batch N times as large; --schedule counts updates.",
        minimum=1,
        maximum=1_000_000,
    )
    ema: float | None = option(
        None,
        "Test and save a running average of the weights, e.g. 0.999: so much of it is kept at each update.",
        metavar="DECAY",
        above=0,
        maximum=0.999999,
    )
    precision: TrainingPrecision = option(
        TrainingPrecision.fp32, "bf16, fp16: compute with 16 bits where that is safe; weights and losses keep 32."
    )
    channels_last: bool | None = option(
        None, "Keep the channels of a pixel side by side in memory. Default: where it is known to be faster."
    )
    compile: bool = option(False, "Compile the network with torch.compile. It is slow to start, and meant for GPUs.")
    threads: int | None = option(
        None,
        "Threads of the CPU; another number gives other weights, by rounding. Default: 1 for small networks, else all.",
        minimum=1,
        maximum=1024,
    )

    @property
    def chooses_epoch(self) -> bool:
        """Whether the validation images decide which epoch is kept."""
        return self.keep_best or self.patience is not None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.augment:
            require_name("augmentation", name, AUGMENTATIONS)


def read_list(text: str) -> tuple[str, ...]:
    """The parts of a text, separated by commas; equal ones count once."""
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


@dataclass(frozen=True)
class LabelConfig(Config):
    """Which training images a student sees, how many of their labels, and what becomes of images without one."""

    train_fraction: float = option(
        1.0, "Share of the training labels to use, the same for each class.", above=0, maximum=1
    )
    transfer: Transfer = option(
        Transfer.labelled, "Images without a label: left out, or shown with the teacher's outputs."
    )
    omit_class: tuple[str, ...] = option(
        (), "Show the student no image of these classes.", metavar="NAME,...", read=read_list
    )
    only_classes: tuple[str, ...] = option(
        (), "Show the student images of these classes alone.", metavar="NAME,...", read=read_list
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.omit_class and self.only_classes:
            raise ConfigError("give --omit-class or --only-classes, not both")


DATA_DIR = option(Path("data"), "Where data sets are kept.", env="KD_DATA_DIR")


@dataclass(frozen=True)
class DataConfig(Config):
    """Which data set, and where data sets are kept."""

    dataset: str = option(
        "auto",
        "A name (see kd list datasets) or a folder of images: CLASS/*, or train/CLASS/* and test/CLASS/*; auto is "
        "MNIST, or the bundled digits without it.",
        short="-d",
        metavar="NAME|PATH",
    )
    data_dir: Path = DATA_DIR
    image_size: int | None = option(
        None,
        "Height and width of a folder's images. Default: as for the networks used, else their commonest size.",
        minimum=4,
        maximum=1024,
    )
    test_fraction: float | None = option(
        None,
        "Share of the test images in a folder CLASS/*. Default: as for the networks used, else 0.2.",
        above=0,
        maximum=0.9,
    )
    validation_fraction: float | None = option(
        None, "Share of the training images to validate with. Default: 0.1 of a folder, else 0.", minimum=0, maximum=0.9
    )
    skip_unreadable: bool = option(False, "Leave out the images of a folder that cannot be read.")


@dataclass(frozen=True)
class ModelsConfig(Config):
    """Where checkpoints are kept."""

    models_dir: Path = option(
        Path("runs/models"), "Where checkpoints are kept, a folder for each data set.", env="KD_MODELS_DIR"
    )


@dataclass(frozen=True)
class DeviceConfig(ModelsConfig):
    """Where checkpoints are kept, where a command computes, and whose code it may run."""

    device: DeviceName = option(DeviceName.auto, "Where to compute.")
    trust: tuple[str, ...] = option(
        (),
        "Your network's file or module, so that checkpoints of it are read; may be repeated; KD_TRUST, too.",
        metavar="FILE.py|MODULE",
    )


def _read_channels(named: tuple[float, ...], text: str) -> tuple[float, ...]:
    """A number for each channel, or one for all."""
    if text == "imagenet":
        return named
    try:
        return tuple(map(float, text.split(",")))
    except ValueError as error:
        raise ConfigError(f"{text!r} is no number for each channel: use e.g. 0.485,0.456,0.406, or imagenet") from error


_CHANNELS = {"metavar": "X,..."}
_MEAN = {"read": partial(_read_channels, IMAGENET_MEAN), **_CHANNELS}
_STD = {"read": partial(_read_channels, IMAGENET_STD), "above": 0, **_CHANNELS}


@dataclass(frozen=True)
class RunConfig(DeviceConfig):
    """Where checkpoints are kept and used, and how plain state dicts, which do not describe themselves, are read."""

    arch: str | None = option(None, "Architecture of plain state dicts. Default: told from the layers.", metavar="SPEC")
    mean: tuple[float, ...] | None = option(
        None,
        "Mean of the pixels (0 to 1) they were trained on, by channel; or imagenet. Default: the data's.",
        **_MEAN,
    )
    std: tuple[float, ...] | None = option(None, "Their standard deviation, likewise.", **_STD)


@dataclass(frozen=True)
class ClassBias:
    """A number that is added to the logits of a class, which is given by name or number."""

    name: str
    value: float

    def __str__(self) -> str:
        return f"{self.name}={self.value}"


def _read_biases(text: str) -> tuple[ClassBias, ...]:
    biases = {}
    for part in read_list(text):
        name, _, number = part.rpartition("=")
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        if not name or not math.isfinite(value):
            raise ConfigError(f"--class-bias {part}: use a class and a number, e.g. 3=3.5")
        if name in biases:
            raise ConfigError(f"--class-bias {text}: give class {name} once")
        biases[name] = ClassBias(name, value)
    return tuple(biases.values())


@dataclass(frozen=True)
class ClassBiasConfig(Config):
    """What ``kd evaluate`` adds to the logits of some classes."""

    class_bias: tuple[ClassBias, ...] = option(
        (),
        "Measure also with numbers added to the logits of classes, e.g. 3=3.5 or 7=-7.6,8=-7.6.",
        metavar="NAME=X,...",
        read=_read_biases,
    )
    fit_class_bias: tuple[str, ...] = option(
        (),
        "The same with one number for these classes, which leaves fewest errors on the validation images.",
        metavar="NAME,...",
        read=read_list,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.class_bias and self.fit_class_bias:
            raise ConfigError("give --class-bias or --fit-class-bias, not both")


_CACHE_DIR = "Where teachers' outputs are kept for later commands. Default: the system's place for such files."


@dataclass(frozen=True)
class CacheConfig(Config):
    """Where teachers' outputs are kept."""

    cache_dir: Path | None = option(None, _CACHE_DIR, env="KD_CACHE_DIR")


def _read_shape(text: str) -> tuple[int, ...]:
    shape = tuple(int(part) for part in text.split(",") if part.strip().isdecimal())
    if len(shape) != 3 or len(text.split(",")) != 3 or not all(1 <= size <= 10_000 for size in shape):
        raise ConfigError(f"--shape {text}: use channels, height and width of the images, e.g. 3,224,224")
    return shape


@dataclass(frozen=True)
class ImagesConfig(Config):
    """For which images ``kd list layers`` builds a network: those of a data set, or of a shape."""

    dataset: str | None = option(None, "Data set whose images it takes.", short="-d", metavar="NAME|PATH")
    data_dir: Path = DATA_DIR
    shape: tuple[int, ...] | None = option(
        None,
        "Shape of its images. Default: 1,28,28 for cnn-N and mlp-N, else 3,224,224.",
        metavar="C,H,W",
        read=_read_shape,
    )
    classes: int = option(10, "Number of classes.", minimum=2, maximum=100_000)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dataset is not None and self.shape is not None:
            raise ConfigError("give --dataset or --shape, not both")


@dataclass(frozen=True)
class TeacherConfig(Config):
    """Which teachers a student learns from."""

    teachers: tuple[Path, ...] = option(
        (),
        "Teacher's checkpoint; several are averaged. Default: the data set's teacher.",
        flag="teacher",
        metavar="PATH",
    )
    teacher_arch: str | None = option(
        None, "Architecture of a teacher that is a plain state dict. Default: told from its layers.", metavar="SPEC"
    )
    teacher_mean: tuple[float, ...] | None = option(
        None,
        "Mean of the pixels (0 to 1) it was trained on, by channel; or imagenet. Default: the data's.",
        **_MEAN,
    )
    teacher_std: tuple[float, ...] | None = option(None, "Their standard deviation, likewise.", **_STD)
    ensemble: int = option(1, "Members to use of the ensemble that train-teacher saved.", minimum=1, maximum=1_000)
    views: int | None = option(
        None,
        "With --augment, show each image in K fixed ways, for which the teacher computes once; 0: anew in every epoch, "
        f"with a live teacher. Default: {DEFAULT_VIEWS} if the teacher costs more than a step of the student, else 0.",
        flag="teacher-views",
        metavar="K",
        minimum=0,
        maximum=1_000,
    )
    cache_dir: Path | None = option(None, _CACHE_DIR, env="KD_CACHE_DIR")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.teachers and self.ensemble > 1:
            raise ConfigError("give --teacher or --ensemble, not both")
        if self.teacher_arch and not self.teachers:
            raise ConfigError("--teacher-arch says what the file of --teacher is: give both")


@dataclass(frozen=True)
class OutputConfig(Config):
    """Where a training run is written, and whether it goes on from an earlier one."""

    output: Path | None = option(None, "Checkpoint to write, in place of the one in --models-dir.", short="-o")
    resume: bool = option(False, "Go on with the same command where it was stopped.")


@dataclass(frozen=True)
class ExportConfig(Config):
    """What ``kd export`` writes, and how much it may differ from the original."""

    format: ExportFormat = option(ExportFormat.onnx, "ONNX, or the format of torch.export.")
    int8: bool = option(False, "Quantise to 8 bits, calibrated on training images; for ONNX.")
    half: bool = option(False, "Compute in 16 bits.")
    output: Path | None = option(None, "File to write. Default: beside the checkpoints in --models-dir.", short="-o")
    role: Role = option(Role.student, "Which of the data set's networks, where no checkpoint is given.")
    tolerance: float = option(
        1e-4, "Difference of a logit from the original's that is allowed without --int8 and --half.", minimum=0
    )
    max_drop: float = option(
        0.01, "Accuracy that --int8 or --half may lose, e.g. 0.01 of 99 %, which leaves 98 %.", minimum=0, maximum=1
    )

    @property
    def precision(self) -> Precision:
        """The numbers that the exported network computes with."""
        return Precision.int8 if self.int8 else Precision.float16 if self.half else Precision.float32

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.int8 and self.half:
            raise ConfigError("give --int8 or --half, not both")
        named = self.output.suffix.lower().lstrip(".") if self.output else ""
        if named != self.format.value and named in [each.value for each in ExportFormat]:
            raise ConfigError(f"--output {self.output}: add --format {named}, or name it *.{self.format.value}")
        if self.int8 and self.format is not ExportFormat.onnx:
            raise ConfigError(f"--int8 is for ONNX: leave out --format {self.format.value}, or use --half")


def _read_runtimes(text: str) -> tuple[Runtime, ...]:
    return tuple(map(Runtime, _read_names("runtime", text, [each.value for each in Runtime])))


@dataclass(frozen=True)
class RuntimesConfig(Config):
    """What runs the networks that ``kd benchmark`` measures."""

    runtimes: tuple[Runtime, ...] = option(
        (),
        "Run each network in these on the CPU, side by side: torch, torch-compile, onnx, onnx-int8, or several.",
        metavar="NAMES",
        read=_read_runtimes,
    )


@dataclass(frozen=True)
class HtmlConfig(Config):
    """What ``kd export`` writes in place of a file: a page that runs networks in a browser."""

    html: Path | None = option(
        None, "Write a page there that runs the network in any browser, offline.", metavar="FOLDER"
    )
    with_teacher: bool = option(False, "Show the data set's teacher beside the student; with --html.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.with_teacher and self.html is None:
            raise ConfigError("--with-teacher: add --html FOLDER, or use --role teacher")


@dataclass(frozen=True)
class LogConfig(Config):
    """Where runs are written down while they are trained."""

    tensorboard: Path | None = option(None, "Write each run there for TensorBoard, too.", metavar="FOLDER")


@dataclass(frozen=True)
class ResultConfig(Config):
    """How a result is shown, and what may be replaced by it."""

    json: bool = option(False, "Print one JSON object instead of tables.")
    force: bool = option(False, "Replace files that kd did not write.")


@dataclass(frozen=True)
class ReportConfig(ResultConfig):
    """How a result is shown, where it can be drawn."""

    plot: Path | None = option(None, "Draw the result there, too: PNG, SVG or PDF.", metavar="FILE")


@dataclass(frozen=True)
class PageConfig(ModelsConfig):
    """Where the page of ``kd app`` is served, and whose networks it shows."""

    port: int = option(8501, "Where the page listens.", minimum=1, maximum=65_535)
    host: str = option("localhost", "Its address; 0.0.0.0 lets every machine in that can reach this one.")
    allow_host: tuple[str, ...] = option(
        (), "Another name under which browsers may ask for the page; may be repeated.", metavar="NAME"
    )
    browser: bool = option(True, "Open the page in a browser.")
