"""The options that several commands share, and how the text of an option becomes its value.

Free of torch, as `cli` is before a command runs.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from kd_cli.methods import METHODS, MethodName
from kd_cli.settings import DatasetName, DeviceName, KdError, Schedule, Spec, TrainingSettings, Transfer, parse_spec


def _architecture(text: str) -> Spec:
    try:
        return parse_spec(text)
    except KdError as error:
        raise typer.BadParameter(str(error)) from None


def _positive(value: float | None) -> float | None:
    if value is not None and not 0 < value < float("inf"):
        raise typer.BadParameter(f"{value} is not a positive number.")
    return value


def _fraction(value: float) -> float:
    if not 0 < value <= 1:
        raise typer.BadParameter(f"{value} is not a fraction: use a number above 0, and 1 at most.")
    return value


def _share(value: float | None) -> float | None:
    if value is not None and not 0 <= value <= 1:  # a range of the library's own may let "nan" through
        raise typer.BadParameter(f"{value:g} is not between 0 and 1.")
    return value


def _defaults(option: str) -> str:
    """What a method's own option is when it is not given, for the help text."""
    values = [
        f"{name.value} {method.options[option]:g}" for name, method in METHODS.items() if option in method.options
    ]
    return f"Default: {', '.join(values)}."


def _listed(text: str, read: Callable[[str], Any]) -> list[Any]:
    """The parts of a comma-separated list, each one once."""
    return list(dict.fromkeys(read(part.strip()) for part in text.split(",") if part.strip()))


def _methods(text: str) -> list[MethodName]:
    def read(part: str) -> MethodName:
        if part not in [name.value for name in MethodName]:
            raise typer.BadParameter(f"unknown method {part!r}: use {', '.join(name.value for name in MethodName)}.")
        return MethodName(part)

    return _listed(text, read)


def _students(text: str) -> list[Spec]:
    return _listed(text, _architecture)


def _numbers(text: str) -> list[float]:
    def read(part: str) -> float:
        try:
            return float(part)
        except ValueError:
            raise typer.BadParameter(f"{part!r} is no number.") from None

    return _listed(text, read)


def _temperatures(text: str) -> list[float]:
    return [value for value in _numbers(text) if _positive(value)]


def _alphas(text: str) -> list[float]:
    return [value for value in _numbers(text) if _share(value) is not None]


DEFAULTS = TrainingSettings()

ArchitectureOption = Annotated[Spec, typer.Option(parser=_architecture, metavar="SPEC", help="cnn-N or mlp-N[-M...].")]
DatasetOption = Annotated[DatasetName, typer.Option(help="Data set; auto is MNIST, or the bundled digits without it.")]
DataDirOption = Annotated[Path, typer.Option(envvar="KD_DATA_DIR", help="Where data sets are kept.")]
ModelsDirOption = Annotated[
    Path, typer.Option(envvar="KD_MODELS_DIR", help="Where checkpoints are kept, a folder for each data set.")
]
DeviceOption = Annotated[DeviceName, typer.Option(help="Where to compute.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Go on with the same command where it was stopped.")]
SeedOption = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Same seed, same machine: same weights.")]
EpochsOption = Annotated[int, typer.Option(min=1, help="Times that every training picture is shown.")]
BatchSizeOption = Annotated[int, typer.Option(min=1, help="Pictures per training step.")]
LrOption = Annotated[float, typer.Option(callback=_positive, help="Peak learning rate of Adam.")]
ScheduleOption = Annotated[Schedule, typer.Option(help="How the learning rate goes down.")]
AugmentOption = Annotated[bool, typer.Option("--augment", help="Move each picture by up to 2 pixels, anew each time.")]
WarpOption = Annotated[bool, typer.Option("--warp", help="Turn, scale, slant and move each picture, anew each time.")]
PlotOption = Annotated[Path | None, typer.Option(metavar="FILE", help="Draw the result there, too: PNG, SVG or PDF.")]
OutputOption = Annotated[Path | None, typer.Option(help="Checkpoint to write, in place of the one in --models-dir.")]
TeachersOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--teacher", help="Teacher's checkpoint; several are averaged. Default: the data set's teacher.", metavar="PATH"
    ),
]
EnsembleOption = Annotated[
    int, typer.Option(min=1, help="Teachers to use, of those that train-teacher --ensemble saved.")
]
FractionOption = Annotated[
    float, typer.Option(callback=_fraction, help="Share of the training labels to use, the same for each class.")
]
TransferOption = Annotated[
    Transfer, typer.Option(help="Pictures without a label: left out, or shown with the teacher's.")
]
CheckpointsArgument = Annotated[
    list[Path] | None, typer.Argument(metavar="[CHECKPOINT]...", help="Default: the data set's teacher and student.")
]

MethodOption = Annotated[MethodName, typer.Option(help="How to distil; labels is the baseline.")]
TemperatureOption = Annotated[
    float | None, typer.Option(callback=_positive, help=f"Softness of the targets. {_defaults('temperature')}")
]
AlphaOption = Annotated[
    float | None,
    typer.Option(callback=_share, help=f"Teacher's share of the loss; 0: labels alone. {_defaults('alpha')}"),
]
WeightOption = Annotated[
    float | None, typer.Option(callback=_positive, help=f"Weight of the method's (first) loss. {_defaults('weight')}")
]
BetaOption = Annotated[
    float | None, typer.Option(callback=_positive, help=f"Weight of its second loss. {_defaults('beta')}")
]

MethodsOption = Annotated[
    str, typer.Option(metavar="NAME,...", callback=_methods, help="Methods; see kd distill --help.")
]
StudentsOption = Annotated[
    str, typer.Option(metavar="SPEC,...", callback=_students, help="Students, e.g. mlp-16,mlp-128,cnn-8.")
]
TemperaturesOption = Annotated[
    str, typer.Option(metavar="T,...", callback=_temperatures, help="For methods that have one. Default: their own.")
]
AlphasOption = Annotated[
    str, typer.Option(metavar="A,...", callback=_alphas, help="For methods that have one. Default: their own.")
]
"""The command line's lists arrive as text; their callbacks hand the command real lists."""
