"""The grid of a comparison: methods x students x temperatures x alphas x seeds. Free of torch."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from kd_cli.config import Config, ConfigError, KdError, option
from kd_cli.distillation.methods import FROM_LABELS, MethodConfig, find_method, layer_option, require_possible
from kd_cli.networks.spec import Spec, parse_spec

Part = TypeVar("Part")


@dataclass(frozen=True)
class Cell:
    """What one row of a comparison speaks of: a student trained with one method, over several seeds."""

    student: Spec
    method: MethodConfig

    def __str__(self) -> str:
        return f"{self.student} {self.method}"


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


_read_methods = _list_of(lambda text: MethodConfig(text).method)
_read_students = _list_of(parse_spec)
_read_numbers = _list_of(_read_number)


@dataclass(frozen=True)
class ComparisonConfig(Config):
    """What to compare, and how the runs are carried out; ``seeds`` counts them, from the training's seed upwards."""

    methods: tuple[str, ...] = option(("kd",), "Methods; see kd list methods.", read=_read_methods, metavar="NAME,...")
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
    seeds: int = option(5, "Runs of each; their seeds start at --seed.", minimum=1, maximum=10_000)
    jobs: int | None = option(
        None, "Runs at a time, each with one thread. Default: one per core.", minimum=1, maximum=1_000
    )
    fresh: bool = option(False, "Carry out every run, also those that are kept.")
    results_dir: Path = option(
        Path("runs/results"), "Where finished runs are kept: none is done twice.", env="KD_RESULTS_DIR"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        make_grid(self)


def _require_possible(cell: Cell) -> None:
    require_possible(cell.method, cell.student)


def make_grid(config: ComparisonConfig, require: Callable[[Cell], None] = _require_possible) -> Grid:
    """Every method with every student, at every temperature and alpha where the method has such an option.

    Every student is also trained with labels alone. Without temperatures, or alphas, a method takes its own default.

    Args:
        config: what to compare.
        require: raises `KdError` for a cell that cannot work, as far as is known by now.

    Raises:
        ConfigError: there is nothing to compare, no such method, or an option that none of the methods has; or as
            ``require``.
    """
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
    cells, refused = [], []
    for cell in dict.fromkeys(Cell(student, method) for student in config.students for method in methods):
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
