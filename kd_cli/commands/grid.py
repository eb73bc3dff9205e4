"""The grid of a comparison: methods x students x temperatures x alphas x seeds. Free of torch."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from kd_cli.commands.settings import TunedSettings, read_settings
from kd_cli.config import Config, ConfigError, KdError, option
from kd_cli.distillation.methods import (
    FROM_LABELS,
    MethodConfig,
    describe_options,
    find_method,
    layer_option,
    require_possible,
)
from kd_cli.networks.spec import Spec, parse_spec

Part = TypeVar("Part")


@dataclass(frozen=True)
class Cell:
    """What one row of a comparison speaks of: a student trained with one method, over several seeds.

    ``lr`` is its own learning rate; None stands for that of the whole comparison.
    """

    student: Spec
    method: MethodConfig
    lr: float | None = None

    @property
    def options(self) -> dict[str, float | str]:
        """What the row was told: the options of its method, and its own learning rate."""
        return ({} if self.lr is None else {"lr": self.lr}) | self.method.settings

    def __str__(self) -> str:
        options = f" ({describe_options(self.options)})" if self.options else ""
        return f"{self.student} {self.method.method}{options}"


@dataclass(frozen=True)
class Grid:
    """The cells of a comparison, each student's baseline first, and the pairs that cannot work, with the reason."""

    cells: tuple[Cell, ...]
    refused: tuple[tuple[Cell, str], ...]


def _list_of(read: Callable[[str], Part]) -> Callable[[str], tuple[Part, ...]]:
    """A reader of comma-separated lists, in which equal parts count once."""
    return lambda text: tuple(dict.fromkeys(read(part.strip()) for part in text.split(",") if part.strip()))


def _read_number(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise ConfigError(f"{text!r} is not a number") from error


def _read_address(text: str) -> str:
    if not re.fullmatch(r"(tcp|tls)://[^\s/]+:[0-9]{1,5}", text, re.ASCII):
        raise ConfigError(f"--scheduler {text}: use what dask scheduler prints, e.g. tcp://10.0.0.1:8786")
    return text


read_methods = _list_of(lambda text: MethodConfig(text).method)
_read_students = _list_of(parse_spec)
_read_numbers = _list_of(_read_number)


FRESH = option(False, "Carry out everything anew, also what is kept.")
RESULTS_DIR = option(Path("runs/results"), "Where finished runs are kept: none is done twice.", env="KD_RESULTS_DIR")


@dataclass(frozen=True, kw_only=True)
class KeptRunsConfig(Config):
    """How many runs are carried out; ``seeds`` counts those of each row, from the training's seed upwards."""

    seeds: int = option(5, "Runs of each; their seeds start at --seed.", minimum=1, maximum=10_000)
    jobs: int | None = option(
        None,
        "Runs at a time, each with one thread. Default: one per core, or per thread of the cluster.",
        minimum=1,
        maximum=1_000,
    )
    scheduler: str | None = option(
        None,
        "Carry them out on the Dask cluster whose scheduler is there, e.g. tcp://10.0.0.1:8786.",
        read=_read_address,
        metavar="ADDRESS",
    )
    fresh: bool = FRESH
    results_dir: Path = RESULTS_DIR


@dataclass(frozen=True)
class ComparisonConfig(KeptRunsConfig):
    """What to compare, and how the runs are carried out."""

    methods: tuple[str, ...] = option(("kd",), "Methods; see kd list methods.", read=read_methods, metavar="NAME,...")
    students: tuple[Spec, ...] = option(
        (Spec("mlp", (128,)),), "Students, e.g. mlp-16,mlp-128,cnn-8.", read=_read_students, metavar="SPEC,..."
    )
    temperatures: tuple[float, ...] = option(
        (), "For methods that have one. Default: their own.", read=_read_numbers, metavar="T,...", above=0
    )
    alphas: tuple[float, ...] = option(
        (), "For methods that have one. Default: their own.", read=_read_numbers, metavar="A,...", minimum=0, maximum=1
    )
    student_layer: str | None = layer_option("student")
    teacher_layer: str | None = layer_option("teacher")
    from_study: tuple[TunedSettings, ...] = option(
        (),
        "Compare the settings that kd tune chose, learning rates included: the file that it names, or several.",
        read=_list_of(read_settings),
        metavar="FILE,...",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        make_grid(self)

    @property
    def first_student(self) -> Spec:
        """One of the students."""
        return self.from_study[0].student if self.from_study else self.students[0]


def _require_possible(cell: Cell) -> None:
    require_possible(cell.method, cell.student)


def make_grid(config: ComparisonConfig, require: Callable[[Cell], None] = _require_possible) -> Grid:
    """Every method with every student, at every temperature and alpha where the method has such an option.

    Every student is also trained with labels alone. Without temperatures, or alphas, a method takes its own default.
    Or else: what a study chose.

    Args:
        config: what to compare.
        require: raises `KdError` for a cell that cannot work, as far as is known by now.

    Raises:
        ConfigError: there is nothing to compare, no such method, or an option that none of the methods has; or as
            ``require``.
    """
    wanted = _list_tuned(config) if config.from_study else _list_untuned(config)
    cells, refused = [], []
    for cell in dict.fromkeys(wanted):
        try:
            require(cell)
            cells.append(cell)
        except ConfigError:  # of options that contradict each other
            raise
        except KdError as error:
            refused.append((cell, str(error)))
    if all(cell.method.is_baseline for cell in cells):
        reason = refused[0][1] if refused else "give at least one of --methods besides labels"
        raise ConfigError(f"nothing to compare with the baseline: {reason}")
    return Grid(tuple(cells), tuple(refused))


def _list_tuned(config: ComparisonConfig) -> list[Cell]:
    plain = ComparisonConfig()
    for name in ("methods", "students", "temperatures", "alphas", "student_layer", "teacher_layer"):
        if getattr(config, name) != getattr(plain, name):
            raise ConfigError(f"--from-study says what to compare: leave --{name.replace('_', '-')} out")
    students = [tuned.student for tuned in config.from_study]
    for student in students:
        if students.count(student) > 1:
            raise ConfigError(f"--from-study: several files have settings for {student}: give one of them")
    return [
        Cell(tuned.student, each.method, each.lr)
        for tuned in config.from_study
        for each in sorted(tuned.settings, key=lambda setting: not setting.method.is_baseline)
    ]


def _list_untuned(config: ComparisonConfig) -> list[Cell]:
    if not config.students:
        raise ConfigError("nothing to compare: give at least one of --students")
    for option_name, given in (("temperature", config.temperatures), ("alpha", config.alphas)):
        if given and not any(option_name in find_method(method).options for method in config.methods):
            raise ConfigError(f"none of --methods takes --{option_name}s: leave it out, or add kd")
    layers: dict[str, Any] = {"student_layer": config.student_layer, "teacher_layer": config.teacher_layer}
    if any(layers.values()) and not any(find_method(method).reads_features for method in config.methods):
        raise ConfigError("none of --methods reads a layer: leave --student-layer and --teacher-layer out, or add at")
    methods = [FROM_LABELS]
    for method in config.methods:
        row = find_method(method)
        options = row.options
        for temperature in config.temperatures if config.temperatures and "temperature" in options else [None]:
            for alpha in config.alphas if config.alphas and "alpha" in options else [None]:
                methods.append(MethodConfig(method, temperature, alpha, **(layers if row.reads_features else {})))
    return [Cell(student, method) for student in config.students for method in methods]
