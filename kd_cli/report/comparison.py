"""A comparison as a Rich table and as a CSV file."""

import csv
import io
import textwrap
from collections.abc import Callable, Collection
from dataclasses import asdict, fields
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from rich.cells import cell_len
from rich.console import Console, JustifyMethod
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from kd_cli.commands.results import CellResult, ComparisonResult, RunMeasures
from kd_cli.evaluation.statistics import BETTER, CONFIDENCE, WORSE
from kd_cli.files import write_atomically
from kd_cli.report.tables import UNLIMITED, counted, describe_method, measure, new_table, open_console, print_line

STYLES = {BETTER: "green", WORSE: "red"}

PERCENT = f"{100 * CONFIDENCE:g} %"


class Column(NamedTuple):
    """A column: its name, what it shows of a cell, and the width at which a narrow table folds it."""

    name: str
    show: Callable[[CellResult], str]
    folded: int = UNLIMITED


def print_comparison(result: ComparisonResult) -> None:
    """One row for each student and method, each against its baseline."""
    console = open_console()
    steps = [DROPPED_FIRST[:count] for count in range(len(DROPPED_FIRST) + 1)]
    layouts = [_table(result, fold=False), *(_table(result, fold=True, dropped=step) for step in steps)]
    fitting = (table for table in layouts if measure(console, table).minimum <= console.width)
    console.print(next(fitting, layouts[-1]))
    _print_notes(console, result)


def comparison_title(result: ComparisonResult) -> str:
    """What was compared on what, and for how long."""
    seeds, epochs = counted(len(result.seeds), "seed"), counted(result.epochs, "epoch")
    return f"Did it help? {result.dataset}, {seeds}, {epochs}"


def write_csv(result: ComparisonResult, path: Path) -> None:
    """Write the runs as a table, one line for each.

    Raises:
        KdError: the file cannot be written.
    """
    options = sorted({name for cell in result.cells for name in cell.options})
    measures = [field.name for field in fields(RunMeasures)]
    text = io.StringIO()
    columns = ["dataset", "student", "parameters", "macs", "method", *options, *measures]
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for cell in result.cells:
        common = {"student": cell.student, "parameters": cell.parameters, "macs": cell.macs, "method": cell.method}
        writer.writerows({"dataset": result.dataset, **common, **cell.options, **asdict(run)} for run in cell.runs)
    write_atomically(path, text.getvalue().encode())


def _show_accuracy(cell: CellResult) -> str:
    deviation = cell.std["accuracy"]
    return f"{cell.mean['accuracy']:.2%}" + ("" if deviation is None else f" ± {100 * deviation:.2f}")


def _show_points(cell: CellResult) -> str:
    if cell.difference is None:
        return ""
    mean = f"{100 * cell.difference.mean:+.2f}"
    if cell.difference.interval is None:
        return mean
    low, high = (100 * end for end in cell.difference.interval)
    return f"{mean} [{low:+.2f},{high:+.2f}]"  # no space in the interval: cells are folded at spaces


def _show_p(cell: CellResult) -> str:
    p_value = cell.difference.adjusted_p_value if cell.difference else None
    if p_value is None:
        return "-" if cell.difference else ""
    return f"{p_value:.3f}" if p_value >= 0.001 else "<0.001"


def _show_verdict(cell: CellResult) -> str:
    return cell.difference.verdict if cell.difference else "(baseline)"


COLUMNS = (
    Column("Accuracy", _show_accuracy),
    Column("Errors", lambda cell: f"{cell.mean['error_count']:.1f}"),
    Column("ECE", lambda cell: f"{cell.mean['ece']:.4f}"),
    Column("Agreement", lambda cell: f"{cell.mean['agreement']:.2%}"),
    Column(f"Points over labels ({PERCENT})", _show_points, folded=14),
    Column("p (Holm)", _show_p, folded=6),
    Column("Verdict", _show_verdict, folded=13),
)
"""The columns after the student and its method."""

DROPPED_FIRST = ("Agreement", "ECE", "Errors", "p (Holm)")
"""What a narrow table leaves out, in this order, until the rest fits."""


def _table(result: ComparisonResult, fold: bool, dropped: Collection[str] = ()) -> Table:
    columns = [column for column in COLUMNS if column.name not in dropped]

    def show(text: str, column: Column) -> str:
        width = column.folded if fold else UNLIMITED
        return textwrap.fill(text, width, break_long_words=False, break_on_hyphens=False)

    table = new_table(comparison_title(result), result.device_name)
    table.add_column("Student", no_wrap=True)
    table.add_column("Trained with")
    for column in columns:
        justify: JustifyMethod = "left" if column.show is _show_verdict else "right"
        table.add_column(show(column.name, column), justify=justify, no_wrap=True)
    for student, cells in groupby(result.cells, key=lambda cell: cell.student):
        for number, cell in enumerate(cells):
            name = escape(_row_name(cell, result))
            shown = [Text(show(column.show(cell), column)) for column in columns]
            if cell.difference and cell.difference.verdict in STYLES:
                shown[-1].stylize(STYLES[cell.difference.verdict])
            table.add_row("" if number else escape(student), name, *shown)
        table.add_section()
    # Rich would rather cut numbers off than fold names further.
    for drawn in table.columns[2:]:
        drawn.min_width = max(cell_len(line) for text in (drawn.header, *drawn.cells) for line in str(text).split("\n"))
    return table


def _row_name(cell: CellResult, result: ComparisonResult) -> str:
    """The method, with its options where the table has it with several, and its seeds where some are missing."""
    variants = {tuple(other.options.items()) for other in result.cells if other.method == cell.method}
    name = describe_method(cell.method, cell.options if len(variants) > 1 else {})
    seeds = len(result.seeds)
    return name if len(cell.runs) == seeds else f"{name}, {len(cell.runs)} of {counted(seeds, 'seed')}"


def _print_notes(console: Console, result: ComparisonResult) -> None:
    tests = sum(cell.difference is not None and cell.difference.p_value is not None for cell in result.cells)
    notes = [
        "Accuracy: mean ± standard deviation over the seeds.",
        "Points over labels: mean difference to the same student trained with labels alone, paired by seed. In "
        f"brackets: the {PERCENT} interval (Student t) of each difference alone.",
        f"p: p value of a paired t test, adjusted for {counted(tests, 'difference')} in this table (Holm 1979). Verdict: "
        f"{BETTER} or {WORSE} where p is below {100 - 100 * CONFIDENCE:g} %.",
        "A single seed, or differences that are all equal, give no p value and decide nothing.",
    ]
    options = dict.fromkeys(describe_method(cell.method, cell.options) for cell in result.cells if cell.options)
    if options:
        notes.append(f"Options: {'; '.join(options)}.")
    notes += [f"Left out: {refused.reason}." for refused in result.refused]
    for path, architecture in zip(result.teachers, result.teacher_architectures, strict=True):
        notes.append(f"Teacher: {path} ({architecture})")
    runs = result.runs
    notes.append(
        f"{counted(runs.total, 'run')}, {runs.carried_out} of them carried out now, {runs.side_by_side} at a time, "
        f"{len(result.failed)} failed; kept in {result.results_dir}"
    )
    for note in notes:
        print_line(console, note)
