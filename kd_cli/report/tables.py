"""What all tables share: where they are printed, how they begin, and the words for networks, methods and numbers."""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table

from kd_cli.config import Precision
from kd_cli.distillation.methods import describe_options
from kd_cli.terminal import open_stdout, printable

if TYPE_CHECKING:  # to import them is to import torch
    from kd_cli.commands.results import Model

PIPE_WIDTH = 120
"""Columns that a table may take in a file or a pipe, where nothing says how many there are."""

UNLIMITED = 10_000
"""More columns than any table takes."""

ShownModel = TypeVar("ShownModel", bound="Model")


def open_console() -> Console:
    """Standard output for tables."""
    console = Console(file=open_stdout(), emoji=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = PIPE_WIDTH
    return console


def plain(text: str) -> str:
    """Text for a table: neither markup nor control characters in it are obeyed."""
    return escape(printable(text))


def new_table(title: str, caption: str | None, *columns: str, left: int = 1) -> Table:
    """An empty table, wide enough for its title; its first ``left`` columns are of text, the others of numbers."""
    table = Table(title=plain(title), caption=caption and plain(caption), min_width=cell_len(printable(title)))
    for number, name in enumerate(columns):
        table.add_column(plain(name), justify="left" if number < left else "right", no_wrap=number >= left)
    return table


def table_of_models(
    title: str,
    caption: str | None,
    models: Sequence[ShownModel],
    show: Callable[[ShownModel], Iterable[tuple[str, str]]],
    first: str = "",
) -> Table:
    """A column for each network; a row for each thing that ``show`` tells of it, by its name."""
    table = new_table(title, caption, first, *number_roles(models))
    for row in zip(*map(show, models), strict=True):
        table.add_row(plain(row[0][0]), *(plain(text) for _, text in row))
    return table


def print_table(console: Console, table: Table) -> None:
    """Print a table; a terminal too narrow for it folds its lines, for no cell is cut off."""
    console.width = max(console.width, measure(console, table).minimum)
    console.print(table)


def measure(console: Console, table: Table) -> Measurement:
    """The columns that a table takes if its cells are folded as far as words allow, and if none is."""
    unlimited = console.options.update(width=UNLIMITED)
    for column in table.columns:
        if column.no_wrap:  # Rich would cut its cells off before it folds those of other columns
            cells = (column.header, *column.cells)
            column.min_width = max(Measurement.get(console, unlimited, each).maximum for each in cells)
    return Measurement.get(console, unlimited, table)


def print_checkpoints(console: Console, dataset: str, models: "Sequence[Model]") -> None:
    """The files that a table speaks of; ``dataset`` is what a file that does not say is taken to be trained on."""
    for role, model in zip(number_roles(models), models, strict=True):
        origin = " (ships with kd)" if model.shipped else ""
        if model.assumed:
            origin = f" (assumed: trained on {dataset}; the file does not say)"
        print_line(console, f"{role}: {model.checkpoint}{origin}")


def print_line(console: Console, text: str) -> None:
    """Print a line as it is: not wrapped, so that a path in it can be copied, and without colours."""
    console.print(printable(text), markup=False, highlight=False, soft_wrap=True)


def number_roles(models: "Sequence[Model]") -> list[str]:
    """What tables call networks: Teacher, Student; or Student 1, Student 2 where a role is there more than once."""
    total, so_far = Counter(model.role for model in models), Counter[str]()
    names = []
    for model in models:
        so_far[model.role] += 1
        names.append(model.role.capitalize() + (f" {so_far[model.role]}" if total[model.role] > 1 else ""))
    return names


def name_of(model: "Model") -> str:
    """A network's role and architecture."""
    return f"{model.role.capitalize()} {architecture_of(model)}"


def architecture_of(model: "Model") -> str:
    """A network's architecture, and the precision of an exported file where that is not the usual one."""
    return model.architecture if model.precision == Precision.float32 else f"{model.architecture}, {model.precision}"


def describe_method(method: str, options: Mapping[str, float | str]) -> str:
    """A method with its options, e.g. ``kd (T 4, alpha 0.9)``."""
    return f"{method} ({describe_options(options)})" if options else method


def counted(number: int, noun: str) -> str:
    """1 epoch, 2 epochs, 1,000 epochs."""
    return f"{number:,} {noun}{'s' if number != 1 else ''}"
