"""A comparison as a Rich table, as a CSV file and as a plot."""

import textwrap
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby, pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from kd_cli.commands.results import MEASURES, CellResult, ComparisonResult, TuningResult
from kd_cli.config import CostAxis
from kd_cli.evaluation.statistics import BETTER, CONFIDENCE, WORSE
from kd_cli.report import as_csv
from kd_cli.report.plots import COST_LABELS, line_style, new_figure
from kd_cli.report.tables import (
    counted,
    describe_method,
    measure,
    new_table,
    open_console,
    plain,
    print_line,
    print_table,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLES = {BETTER: "green", WORSE: "red"}

CSV_FIRST = ("dataset", "student", "parameters", "macs", "method")
CSV_MEASURES = ("seed", *MEASURES)

PERCENT = f"{100 * CONFIDENCE:g} %"


def print_comparison(result: ComparisonResult) -> None:
    """One row for each student and method, each against its baseline."""
    console = open_console()
    dropped = print_fitting(console, lambda widths: _table(result, widths), NARROWER)
    _print_notes(console, result, dropped)


def print_fitting(
    console: Console, make_table: Callable[[Mapping[str, int]], Table], narrower: Sequence[tuple[str, int]]
) -> list[str]:
    """Print a table with as few of the steps as make it fit that make it narrower; the columns that were dropped.

    Args:
        console: where.
        make_table: the table, with columns by name that are folded to a width, or dropped where that is 0.
        narrower: the steps.
    """
    tables = [make_table(dict(narrower[:steps])) for steps in range(len(narrower) + 1)]
    fitting = (steps for steps, table in enumerate(tables) if measure(console, table).minimum <= console.width)
    steps = next(fitting, len(narrower))
    print_table(console, tables[steps])
    return [name for name, width in narrower[:steps] if not width]


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
    rows: list[list[object]] = [[*CSV_FIRST, *options, *CSV_MEASURES]]
    for cell in result.cells:
        about = [result.dataset, cell.student, cell.parameters, cell.macs, cell.method]
        about += [cell.options.get(name, "") for name in options]
        rows += [[*about, *(getattr(run, name) for name in CSV_MEASURES)] for run in cell.runs]
    as_csv.write_rows(path, rows)


def is_our_csv(path: Path) -> bool:
    """Whether a file is what `write_csv` writes, as far as its header tells."""
    return as_csv.has_header(path, CSV_FIRST, CSV_MEASURES[-1])


POINTS, P_VALUE, VERDICT = f"Points over labels ({PERCENT})", "p (Holm)", "Verdict"


def measures_of(cell: CellResult) -> dict[str, str]:
    """What the columns after the student and its method show of a cell."""
    deviation, difference = cell.std["accuracy"], cell.difference
    points, p_value, verdict = "", "", "(baseline)"
    if difference is not None:
        points, p_value, verdict = f"{100 * difference.mean:+.2f}", "-", difference.verdict
        if difference.interval is not None:
            low, high = (100 * end for end in difference.interval)
            points += f" [{low:+.2f},{high:+.2f}]"  # no space in the interval: cells are folded at spaces
        if difference.adjusted_p_value is not None:
            p_value = f"{difference.adjusted_p_value:.3f}" if difference.adjusted_p_value >= 0.001 else "<0.001"
    return {
        "Accuracy": f"{cell.mean['accuracy']:.2%}" + ("" if deviation is None else f" ± {100 * deviation:.2f}"),
        "Errors": f"{cell.mean['error_count']:.1f}",
        "ECE": f"{cell.mean['ece']:.4f}",
        "Agreement": f"{cell.mean['agreement']:.2%}",
        POINTS: points,
        P_VALUE: p_value,
        VERDICT: verdict,
    }


NARROWER = (
    *((POINTS, 14), (P_VALUE, 6), (VERDICT, 13)),
    *(("Agreement", 0), ("ECE", 0), ("Errors", 0)),
    *(("Accuracy", 7), (P_VALUE, 0)),
)
"""The steps that make a table narrower, until it fits: a column and the width to fold it to; 0 drops it."""


def _table(result: ComparisonResult, widths: Mapping[str, int]) -> Table:
    columns = [name for name in measures_of(result.cells[0]) if widths.get(name) != 0]
    table = new_table(comparison_title(result), result.device_name, "Student", "Trained with", left=2)
    table.columns[0].no_wrap = True
    add_columns(table, columns, widths)
    for student, cells in groupby(result.cells, key=lambda cell: cell.student):
        for number, cell in enumerate(cells):
            shown = fold_measures(measures_of(cell), columns, widths)
            table.add_row("" if number else plain(student), plain(_row_name(cell, result)), *shown)
        table.add_section()
    return table


def add_columns(table: Table, names: Sequence[str], widths: Mapping[str, int]) -> None:
    """Add columns of measures, folded to their widths."""
    for name in names:
        table.add_column(_fold(name, widths.get(name)), justify="left" if name == VERDICT else "right", no_wrap=True)


def fold_measures(measures: Mapping[str, str], names: Sequence[str], widths: Mapping[str, int]) -> list[Text]:
    """A row's cells in these columns; the verdict has its colour."""
    return [
        Text(_fold(measures[name], widths.get(name)), STYLES.get(measures[name], "") if name == VERDICT else "")
        for name in names
    ]


def _fold(text: str, width: int | None) -> str:
    return textwrap.fill(text, width, break_long_words=False, break_on_hyphens=False) if width else text


def _row_name(cell: CellResult, result: ComparisonResult) -> str:
    """The method, with its options where the table has it with several, and its seeds where some are missing."""
    variants = {tuple(other.options.items()) for other in result.cells if other.method == cell.method}
    name = describe_method(cell.method, cell.options if len(variants) > 1 else {})
    seeds = len(result.seeds)
    return name if len(cell.runs) == seeds else f"{name}, {len(cell.runs)} of {counted(seeds, 'seed')}"


def _print_notes(console: Console, result: ComparisonResult, dropped: Sequence[str]) -> None:
    notes = [
        "Accuracy: mean ± standard deviation over the seeds; errors, ECE and agreement: means.",
        *explain_verdicts(result.cells),
    ]
    if dropped:
        notes.append(say_dropped(dropped))
    options = dict.fromkeys(describe_method(cell.method, cell.options) for cell in result.cells if cell.options)
    if options:
        notes.append(f"Options: {'; '.join(options)}.")
    notes += describe_faults(result.cells, lambda cell: f"{cell.student} with {_row_name(cell, result)}")
    notes += describe_origin(result)
    runs = result.runs
    notes.append(
        f"{counted(runs.total, 'run')}, {runs.carried_out} of them carried out now, {runs.side_by_side} at a time, "
        f"{len(result.failed)} failed; kept in {result.results_dir}"
    )
    for note in notes:
        print_line(console, note)


def explain_verdicts(cells: Sequence[CellResult]) -> list[str]:
    """What differences, p values and verdicts of a table are."""
    tests = sum(cell.difference is not None and cell.difference.p_value is not None for cell in cells)
    return [
        "Points over labels: mean difference to the same student trained with labels alone, paired by seed. In "
        f"brackets: the {PERCENT} interval (Student t) of each difference alone.",
        f"p: p value of a paired t test, adjusted for {counted(tests, 'difference')} in this table (Holm 1979). "
        f"Verdict: {BETTER} or {WORSE} where p is below {100 - 100 * CONFIDENCE:g} %.",
        "A single seed, or differences that are all equal, give no p value and decide nothing.",
    ]


def say_dropped(columns: Sequence[str]) -> str:
    """Which columns a table is too narrow for."""
    return f"No room for {', '.join(columns)}: widen the terminal, or use --json or --csv."


def describe_faults(cells: Sequence[CellResult], name_of: Callable[[CellResult], str]) -> list[str]:
    """Which rows contain runs that learnt nothing."""
    notes = []
    for cell in cells:
        faults = [run.fault for run in cell.runs if run.fault]
        if faults:
            learnt = f"{len(faults)} of {counted(len(cell.runs), 'run')} learnt nothing, and the means contain them"
            notes.append(f"{name_of(cell)}: {learnt}. The first one: {faults[0]}.")
    return notes


def describe_origin(result: ComparisonResult | TuningResult) -> list[str]:
    """What was left out, and the teachers."""
    teachers = zip(result.teachers, result.teacher_architectures, strict=True)
    return [
        *(f"Left out: {refused.reason}." for refused in result.refused),
        *(f"Teacher: {path} ({architecture})" for path, architecture in teachers),
    ]


def draw_comparison(result: ComparisonResult, cost: CostAxis = CostAxis.macs) -> "Figure":
    """Mean accuracy against the cost of the student, a line for each method, with standard deviations."""
    figure = new_figure(9.5, 5, f"{comparison_title(result)}\n{result.device_name}")
    axes = figure.add_subplot()
    costs = sorted({_cost(cell, cost) for cell in result.cells})
    span = max(costs[-1] / costs[0], 2)
    # Methods stand side by side, or they would hide each other; but no nearer to another student than to their own.
    spread = min([span**0.12, *((b / a) ** 0.8 for a, b in pairwise(costs))])
    methods: dict[str, list[CellResult]] = {}
    for cell in result.cells:
        methods.setdefault(describe_method(cell.method, cell.options), []).append(cell)
    for number, (method, cells) in enumerate(methods.items()):
        cells.sort(key=lambda cell: _cost(cell, cost))
        shift = spread ** ((number + 0.5) / len(methods) - 0.5)
        axes.errorbar(
            [_cost(cell, cost) * shift for cell in cells],
            [100 * cell.mean["accuracy"] for cell in cells],
            [100 * (cell.std["accuracy"] or 0) for cell in cells],
            capsize=3,
            label=method,
            **line_style(number),
        )
    axes.set(xscale="log", xlim=(costs[0] / span**0.12, costs[-1] * span**0.12))
    axes.set_xticks(*_label_students(result.cells, cost, span))
    axes.minorticks_off()
    axes.set_xlabel(f"{COST_LABELS[cost]} of the student, logarithmic; methods side by side")
    axes.set_ylabel("Test accuracy (%), mean and standard deviation")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", title="Trained with", fontsize="small")
    return figure


def _cost(cell: CellResult, cost: CostAxis) -> int:
    return cell.macs if cost is CostAxis.macs else cell.parameters


def _label_students(cells: Sequence[CellResult], cost: CostAxis, span: float) -> tuple[list[int], list[str]]:
    """Where students are on the axis of costs, and their names; those that would collide take turns to go lower."""
    names: dict[int, list[str]] = {}
    for cell in sorted(cells, key=lambda cell: _cost(cell, cost)):
        names.setdefault(_cost(cell, cost), []).append(cell.student)
    labels, before, lower = [], 0.0, False
    for value, students in names.items():
        lower = not lower and value < before * span**0.15
        labels.append("\n\n" * lower + f"{value:,}\n{', '.join(dict.fromkeys(students))}")
        before = value
    return list(names), labels
