"""Configurations -> options of the command line: one option for each field, stated once, where the field is.

Free of torch, as `cli` is before a command runs.
"""

import dataclasses
import functools
import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import UnionType
from typing import Annotated, Any

import typer

from kd_cli.config import DATA_DIR, Config, ConfigError, CostAxis, Option, as_text, option, require_name
from kd_cli.networks.spec import SPEC_HELP, Spec, parse_spec

Command = Callable[..., None]

STDOUT = Path("-")
"""Stands for standard output where a file is asked for."""


_INIT = "Start from these weights (fine-tuning): a checkpoint, or a plain state dict."


@dataclass(frozen=True)
class TeacherNetworkConfig(Config):
    """What ``kd train-teacher`` trains."""

    arch: Spec = option(Spec("cnn", (32,)), SPEC_HELP, read=parse_spec, metavar="SPEC")
    init: Path | None = option(None, _INIT, metavar="FILE")
    ensemble: int = option(1, "Teachers to train, with seeds that follow each other.", minimum=1, maximum=1_000)


@dataclass(frozen=True)
class StudentNetworkConfig(Config):
    """What ``kd distill`` trains."""

    student: Spec = option(Spec("mlp", (128,)), SPEC_HELP, read=parse_spec, metavar="SPEC")
    init: Path | None = option(None, _INIT, metavar="FILE")
    as_teacher: bool = option(False, "Save it as the data set's teacher, which smaller students learn from.")


@dataclass(frozen=True)
class ComparisonReportConfig(Config):
    """How a comparison is shown, beside what all results share."""

    csv: Path | None = option(None, "Write the runs there, too, as comma-separated values.", metavar="FILE")
    plot_cost: CostAxis = option(CostAxis.macs, "What --plot shows accuracy against.")


@dataclass(frozen=True)
class TuningReportConfig(Config):
    """How a study is shown, beside what all results share."""

    csv: Path | None = option(None, "Write the table there, too, as comma-separated values.", metavar="FILE")


@dataclass(frozen=True)
class EvaluationReportConfig(Config):
    """How an evaluation is shown, beside what all results share."""

    details: bool = option(False, "Show accuracy by class and by confidence, and where networks disagree, too.")
    confusion: bool = option(False, "Show which classes are predicted as which, too.")


@dataclass(frozen=True)
class PredictionConfig(Config):
    """Which networks predict, and what is told of it."""

    teacher: Path | None = option(None, "Teacher's checkpoint. Default: the data set's, if it has one.")
    student: Path | None = option(None, "Student's checkpoint. Default: the data set's, if it has one.")
    model: Path | None = option(None, "A checkpoint or an exported file (.onnx) that predicts alone.", metavar="FILE")
    dataset: str = option(
        "auto",
        "Data set whose networks to use; auto is that of --teacher or --student, or MNIST.",
        short="-d",
        metavar="NAME",
    )
    data_dir: Path = DATA_DIR
    all: bool = option(False, "Read each digit of an image that shows several, not only the one with most ink.")
    top: int = option(2, "Classes to show of each prediction.", minimum=1, maximum=1_000)
    show: bool = option(False, "Draw what the networks saw.")
    save_preprocessed: Path | None = option(None, "Folder for what they saw, as PNG files.", metavar="FOLDER")
    labels_from_name: bool = option(
        False,
        "Count errors: a folder named as a class, or a name such as 7.png or 7-a.png of a digit, says what is correct.",
    )
    csv: Path | None = option(
        None, "Write the predictions there, too, as comma-separated values; - is stdout.", metavar="FILE"
    )
    json: bool = option(False, "Print one JSON object instead of tables.")
    force: bool = option(False, "Replace files that kd did not write.")

    def __post_init__(self) -> None:
        super().__post_init__()
        printed = {"--json": self.json, "--csv -": self.csv == STDOUT, "--show": self.show}
        if sum(printed.values()) > 1:
            raise ConfigError(f"{' and '.join(name for name, on in printed.items() if on)}: choose one of them")


def with_options(command: Command) -> Command:
    """Give a command an option for each field of the configurations among its parameters.

    Typer reads a function's signature, so the function returned has one parameter for each option. It makes the
    configurations of their values, which checks them, and calls the command.
    """
    hints = typing.get_type_hints(command, include_extras=True)
    configs = {name: hint for name, hint in hints.items() if isinstance(hint, type) and issubclass(hint, Config)}
    parameters = []
    for name, parameter in inspect.signature(command).parameters.items():
        if name in configs:
            # As `__init__` has them, so that a configuration's own options come before those that it inherits.
            fields = sorted(dataclasses.fields(configs[name]), key=lambda field: bool(field.kw_only))
            parameters += [_parameter(field) for field in fields]
        else:
            parameters.append(parameter.replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY))

    @functools.wraps(command)
    def run(**given: Any) -> None:
        made = {name: make_config(config, given) for name, config in configs.items()}
        taken = {field.name for config in configs.values() for field in dataclasses.fields(config)}
        command(**{name: value for name, value in given.items() if name not in taken}, **made)

    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def _parameter(field: "dataclasses.Field[Any]") -> inspect.Parameter:
    """The parameter that Typer makes the field's option of. What is not a path, a text or a switch arrives as text."""
    about: Option = field.metadata["option"]
    name = about.flag or field.name.replace("_", "-")
    kind, default = field.type, field.default
    either = default is True or (default is None and _plain_type(field) is bool)
    flags = [f"--{name}/--no-{name}" if either else f"--{name}", *([about.short] if about.short else [])]
    if _reader(field) is not None:
        kind, default = str | None, None if default is None else as_text(default)
    elif typing.get_origin(kind) is tuple:  # an option that may be given several times
        kind, default = list[typing.get_args(kind)[0]] | None, None  # type: ignore[misc]
    made = typer.Option(
        *flags, help=about.help, envvar=about.env, metavar=about.metavar or _metavar(_plain_type(field))
    )
    return inspect.Parameter(
        field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, made]
    )


def make_config(config: type[Config], given: Mapping[str, Any]) -> Config:
    """A configuration of the values that are given; texts are read as the command line reads them.

    Raises:
        ConfigError: a text cannot be read, or a value is out of bounds.
    """
    values = {}
    for field in dataclasses.fields(config):
        if field.name not in given:
            continue
        read, value = _reader(field), given[field.name]
        if read is not None and isinstance(value, str):
            value = read(value)
        elif _plain_type(field) is Path and isinstance(value, str):
            value = Path(value)
        elif typing.get_origin(field.type) is tuple:
            value = tuple(value or ())
        values[field.name] = value
    return config(**values)


def _reader(field: "dataclasses.Field[Any]") -> Callable[[str], Any] | None:
    """How the option's text becomes the field's value, where that is our own to say: libraries speak of themselves."""
    read: Callable[[str], Any] | None = field.metadata["option"].read
    kind = _plain_type(field)
    if read is None and kind in (int, float):
        return functools.partial(_read_number, field, kind)
    if read is None and isinstance(kind, type) and issubclass(kind, Enum):
        return functools.partial(_read_name, field, kind)
    return read


def _read_number(field: "dataclasses.Field[Any]", kind: type[int | float], text: str) -> int | float:
    try:
        return kind(text)
    except ValueError as error:
        number = "a whole number" if kind is int else "a number"
        raise ConfigError(f"--{field.name.replace('_', '-')} {text}: use {number}") from error


def _read_name(field: "dataclasses.Field[Any]", kind: type[Enum], text: str) -> Enum:
    require_name(field.name.replace("_", " "), text, [each.value for each in kind])
    return kind(text)


def _plain_type(field: "dataclasses.Field[Any]") -> Any:
    """The field's type, without the None that it may also be."""
    kinds = [kind for kind in typing.get_args(field.type) if kind is not type(None)]
    return kinds[0] if isinstance(field.type, UnionType) and len(kinds) == 1 else field.type


def _metavar(kind: Any) -> str | None:
    if isinstance(kind, type) and issubclass(kind, Enum):
        return "|".join(each.value for each in kind)
    return {int: "N", float: "X", Path: "PATH"}.get(kind)
