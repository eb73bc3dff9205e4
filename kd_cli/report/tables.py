"""What all tables share: where they are printed, how they begin, and the words for networks, methods and numbers."""

import io
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TextIO, TypeVar

from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table

from kd_cli.commands.results import Model, Result
from kd_cli.distillation.methods import describe_options

PIPE_WIDTH = 120
"""Columns that a table may take in a file or a pipe, where nothing says how many there are."""

UNLIMITED = 10_000
"""More columns than any table takes."""

ShownModel = TypeVar("ShownModel", bound=Model)


def open_stdout() -> TextIO:
    """Standard output that takes any text: what its encoding cannot express, as in some file names, becomes a ``?``."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    return sys.stdout


def open_console() -> Console:
    """Standard output for tables."""
    console = Console(file=open_stdout())
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = PIPE_WIDTH
    return console


def new_table(title: str, caption: str | None = None) -> Table:
    """An empty table, wide enough for its title."""
    return Table(title=escape(title), caption=caption and escape(caption), min_width=cell_len(title))


def measure(console: Console, table: Table) -> Measurement:
    """The columns that a table takes if its cells are folded as far as words allow, and if none is."""
    return Measurement.get(console, console.options.update(width=UNLIMITED), table)


def side_by_side(
    title: str, result: Result, models: Sequence[ShownModel], rows: Iterable[tuple[str, Callable[[ShownModel], str]]]
) -> Table:
    """A column for each network, a row for each thing that is known of it."""
    table = new_table(title, result.device_name)
    table.add_column("")
    for model in models:
        table.add_column(model.role.capitalize(), justify="right")
    for name, show in rows:
        table.add_row(name, *(escape(show(model)) for model in models))
    return table


def print_checkpoints(console: Console, models: Iterable[Model]) -> None:
    """The files that a table speaks of."""
    for model in models:
        origin = " (ships with kd)" if model.shipped else ""
        print_line(console, f"{model.role.capitalize()}: {model.checkpoint}{origin}")


def print_line(console: Console, text: str) -> None:
    """Print a line as it is: not wrapped, so that a path in it can be copied, and without colours."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def name_of(model: Model) -> str:
    """A network's role and architecture."""
    return f"{model.role.capitalize()} {model.architecture}"


def describe_method(method: str, options: Mapping[str, float]) -> str:
    """A method with its options, e.g. ``kd (T 4, alpha 0.9)``."""
    return f"{method} ({describe_options(options)})" if options else method


def counted(number: int, noun: str) -> str:
    """1 epoch, 2 epochs, 1,000 epochs."""
    return f"{number:,} {noun}{'s' if number != 1 else ''}"
