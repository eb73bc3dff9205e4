"""The grid of a comparison: methods x students x temperatures x alphas x seeds. Free of torch."""

from collections.abc import Sequence
from dataclasses import dataclass

from kd_cli.methods import FROM_LABELS, Choice, MethodName, choose, require_possible
from kd_cli.settings import KdError, Spec


@dataclass(frozen=True)
class Cell:
    """What one row of a comparison speaks of: a student taught in one way, over several seeds."""

    student: Spec
    choice: Choice

    def __str__(self) -> str:
        return f"{self.student} {self.choice}"


@dataclass(frozen=True)
class Grid:
    """The cells of a comparison, each student's baseline first, and the pairs that cannot work, with the reason."""

    cells: tuple[Cell, ...]
    refused: tuple[tuple[Cell, str], ...]


def make_grid(
    methods: Sequence[MethodName],
    students: Sequence[Spec],
    temperatures: Sequence[float],
    alphas: Sequence[float],
    teachers: Sequence[str] = (),
) -> Grid:
    """Every method with every student, at every temperature and alpha where the method has such an option.

    Every student is also taught "from labels". Without temperatures, or alphas, a method takes its own default.

    Raises:
        KdError: there is nothing to compare, or an option that none of the methods has.
    """
    if not students:
        raise KdError("nothing to compare: give at least one of --students")
    for option, given in (("temperature", temperatures), ("alpha", alphas)):
        if given and not any(option in Choice(method).method.options for method in methods):
            raise KdError(f"none of --methods has a {option}: leave --{option}s away, or add kd")
    choices = [FROM_LABELS]
    for method in methods:
        options = Choice(method).method.options
        for temperature in temperatures if temperatures and "temperature" in options else [None]:
            for alpha in alphas if alphas and "alpha" in options else [None]:
                choices.append(choose(method, {"temperature": temperature, "alpha": alpha}))
    cells, refused = [], []
    for cell in dict.fromkeys(Cell(student, choice) for student in students for choice in choices):
        try:
            require_possible(cell.choice, cell.student, teachers)
            cells.append(cell)
        except KdError as error:
            refused.append((cell, str(error)))
    if all(cell.choice == FROM_LABELS for cell in cells):
        reason = refused[0][1] if refused else "give at least one of --methods besides labels"
        raise KdError(f"nothing to compare with the baseline: {reason}")
    return Grid(tuple(cells), tuple(refused))
