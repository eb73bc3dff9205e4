"""A comparison -> a Rich table, a CSV file."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from kd_cli.files import write_atomically
from kd_cli.report import Result, counted, print_line

WIDTH = 120
"""Columns that the table takes in a file or a pipe, where nothing says how many there are."""

STYLES = {"better": "green", "worse": "red"}


def print_comparison(result: Result) -> None:
    """One row for each student and method, each against its baseline."""
    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, WIDTH)
    title = comparison_title(result)
    table = Table(title=title, caption=result["device_name"], min_width=len(title))
    for column in ("Student", "Taught by"):
        table.add_column(column)
    for column in ("Accuracy", "Errors", "Agreement", "ECE", "Points over labels (95 %)"):
        table.add_column(column, justify="right")
    table.add_column("Verdict")
    student = None  # of the row above
    for cell in result["cells"]:
        if student not in (None, cell["student"]):
            table.add_section()
        mean, std = cell["mean"], cell["std"]
        table.add_row(
            "" if cell["student"] == student else str(cell["student"]),
            escape(_name(cell, result)) + _missing(cell, result),
            f"{mean['accuracy']:.2%}" + (f" ± {100 * std['accuracy']:.2f}" if std["accuracy"] is not None else ""),
            f"{mean['error_count']:.1f}",
            f"{mean['agreement']:.2%}",
            f"{mean['ece']:.4f}",
            *_difference(cell["difference"]),
        )
        student = cell["student"]
    console.print(table)
    _print_notes(console, result)


def _print_notes(console: Console, result: Result) -> None:
    compared = sum(cell["difference"] is not None for cell in result["cells"])
    print_line(
        console,
        "Accuracy: mean ± standard deviation over the seeds. Points over labels: mean of the paired differences to the "
        "same student and seed trained on labels alone, with its 95 % Student t interval.",
    )
    if compared > 1:
        print_line(
            console,
            f"Each interval speaks for itself: of {compared} methods that change nothing, about "
            f"{0.05 * compared:.1f} would be called better or worse by chance.",
        )
    options = dict.fromkeys(method_title(cell) for cell in result["cells"] if cell["options"])
    if options:
        print_line(console, f"Options: {'; '.join(options)}.")
    for refusal in result["refused"]:
        print_line(console, f"Left out: {refusal['reason']}.")
    for path, architecture in zip(result["teachers"], result["teacher_architectures"], strict=True):
        print_line(console, f"Teacher: {path} ({architecture})")
    runs = result["runs"]
    print_line(
        console,
        f"{counted(runs['total'], 'run')}, {runs['carried_out']} of them carried out now, {runs['side_by_side']} at a "
        f"time, {len(result['failed'])} failed; kept in {result['results_dir']}",
    )


def write_csv(result: Result, path: Path) -> None:
    """Write the runs as a table, one line for each.

    Raises:
        KdError: the file cannot be written.
    """
    write_atomically(path, _as_csv(result).encode())


def comparison_title(result: Result) -> str:
    """What was compared on what, and for how long."""
    seeds, epochs = counted(len(result["seeds"]), "seed"), counted(result["epochs"], "epoch")
    return f"Did it help? {result['dataset']}, {seeds}, {epochs}"


def method_title(cell: Result) -> str:
    """The method of a cell with its options."""
    if cell["method"] == "labels":
        return "labels"
    options = ", ".join(
        f"{'T' if name == 'temperature' else name} {value:g}" for name, value in cell["options"].items()
    )
    return f"{cell['method']} ({options})" if options else str(cell["method"])


def _as_csv(result: Result) -> str:
    text = io.StringIO()
    cells = result["cells"]
    options = sorted({name for cell in cells for name in cell["options"]})
    names = ["dataset", "student", "parameters", "macs", "method", *options, *cells[0]["runs"][0]]
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    for cell in cells:
        common = {name: cell[name] for name in ("student", "parameters", "macs", "method")}
        writer.writerows({"dataset": result["dataset"], **common, **cell["options"], **run} for run in cell["runs"])
    return text.getvalue()


def _name(cell: Result, result: Result) -> str:
    """The method, with its options where the table has it with several."""
    variants = {method_title(other) for other in result["cells"] if other["method"] == cell["method"]}
    return method_title(cell) if len(variants) > 1 else str(cell["method"])


def _missing(cell: Result, result: Result) -> str:
    count = len(cell["runs"])
    return "" if count == len(result["seeds"]) else f", {count} of {len(result['seeds'])} seeds"


def _difference(difference: Result | None) -> Sequence[str]:
    if difference is None:
        return "", "(baseline)"
    shown = f"{100 * difference['mean']:+.2f}"
    if difference["interval"] is not None:
        low, high = (100 * end for end in difference["interval"])
        shown += f" ({low:+.2f} to {high:+.2f})"
    style = STYLES.get(difference["verdict"])
    verdict = f"[{style}]{difference['verdict']}[/]" if style else difference["verdict"]
    return shown, verdict
