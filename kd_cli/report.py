"""Results -> Rich tables and JSON. The only module that prints results."""

import csv
import json
import sys
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

Result = dict[str, Any]
ROLES = ("teacher", "student")
Row = tuple[str, Callable[[Result], str]]


def print_json(document: Any) -> None:
    """Exactly one JSON document on stdout."""
    print(json.dumps(document, indent=2))


def print_training(result: Result) -> None:
    """How a training run went, epoch by epoch, and where the network is."""
    console = Console()
    title = f"{result['role'].capitalize()} {result['architecture']} on {result['dataset']}, {_method(result)}"
    table = Table(title=escape(title), caption=f"{result['device_name']}, seed {result['seed']}", min_width=len(title))
    table.add_column("Epoch", justify="right")
    table.add_column("Training loss", justify="right")
    table.add_column("Test accuracy", justify="right")
    table.add_column("Seconds", justify="right")
    for epoch in result["history"]:
        row = (f"{epoch['loss']:.4f}", f"{epoch['accuracy']:.2%}", f"{epoch['seconds']:.1f}")
        table.add_row(str(epoch["epoch"]), *row)
    console.print(table)
    _line(
        console,
        f"Test accuracy {result['accuracy']:.2%} ({result['error_count']:,} errors in {result['test_images']:,} "
        f"pictures) after {result['train_seconds']:.1f} s.",
    )
    _line(console, f"Saved to {result['checkpoint']}")


def print_evaluation(result: Result) -> None:
    """Quality of the networks, side by side."""
    console = Console()
    title = f"Quality on {result['dataset']}: {result['test_images']:,} test pictures"
    rows: list[Row] = [
        ("Architecture", lambda model: str(model["architecture"])),
        ("Trained by", lambda model: str(model["method"])),
        ("Accuracy", lambda model: f"{model['accuracy']:.2%}"),
        ("Errors", lambda model: f"{model['error_count']:,}"),
        ("NLL (nats)", lambda model: f"{model['nll']:.4f}"),
        ("ECE (15 bins)", lambda model: f"{model['ece']:.4f}"),
        ("Agreement with teacher", lambda model: "-" if model["agreement"] is None else f"{model['agreement']:.2%}"),
        ("Weakest class", lambda model: _weakest_class(model, result["classes"])),
        ("Parameters", lambda model: f"{model['parameters']:,}"),
    ]
    console.print(_side_by_side(title, result, rows))
    _print_sources(console, result)


def print_benchmark(result: Result) -> None:
    """Cost of the networks, side by side, with the accuracy that it buys."""
    console = Console()
    rows: list[Row] = [
        ("Architecture", lambda model: str(model["architecture"])),
        ("Accuracy", lambda model: f"{model['accuracy']:.2%}"),
        ("Parameters", lambda model: f"{model['parameters']:,}"),
        ("MACs per picture", lambda model: f"{model['macs']:,}"),
        ("Bytes on disk", lambda model: f"{model['size_bytes']:,}"),
        ("Latency p50, one picture (ms)", lambda model: f"{model['latency_ms']['p50']:.3f}"),
        ("Latency p95, one picture (ms)", lambda model: f"{model['latency_ms']['p95']:.3f}"),
        ("Pictures per second, batch 500", lambda model: f"{model['throughput_per_s']:,.0f}"),
        ("Whole test set (s)", lambda model: f"{model['test_set_seconds']:.3f}"),
    ]
    console.print(_side_by_side(f"Cost on {result['dataset']}", result, rows))
    if result["student_speedup"] is not None:
        _line(console, f"One picture: the student is {result['student_speedup']:.1f} times as fast as the teacher.")
        teacher, student = (next(m for m in result["models"] if m["role"] == role) for role in ("teacher", "student"))
        more = "more" if student["parameters"] > teacher["parameters"] else "fewer"
        _line(
            console,
            f"The student has {student['parameters'] / teacher['parameters']:.2f} times the teacher's parameters "
            f"({more}), and {student['macs'] / teacher['macs']:.2f} times its multiply-accumulates (MACs).",
        )
    _print_sources(console, result)


def print_readings(result: Result) -> None:
    """What teacher and student make of each picture, the most probable class first."""
    console = Console()
    table = Table(title=f"Read by networks trained on {result['dataset']}", caption=result["device_name"])
    table.add_column("File", overflow="fold")
    for column in ("Teacher", "Student"):
        table.add_column(column)
    table.add_column("Agree")
    if "accuracy" in result:
        table.add_column("Label")
    for picture in result["pictures"]:
        if picture["error"] is None:
            cells = [_ranking(picture[role]["top"]) for role in ROLES] + ["yes" if picture["agree"] else "no"]
        else:
            cells = ["not read", "not read", "-"]
        if "accuracy" in result:
            cells.append(picture["label"] or "-")
        table.add_row(escape(picture["file"]), *map(escape, cells))
    console.print(table)
    for role, count in result.get("accuracy", {}).items():
        share = (
            f"{count['correct'] / count['pictures']:.2%}" if count["pictures"] else "unknown: no picture has a label"
        )
        _line(console, f"{role.capitalize()}'s accuracy {share} ({count['correct']:,} of {count['pictures']:,} right)")
    _print_sources(console, result)


def print_readings_csv(result: Result) -> None:
    """The same as comma-separated values, one line for each picture."""
    ranks = max((len(picture["teacher"]["top"]) for picture in result["pictures"] if not picture["error"]), default=1)
    columns = ["file", "error", *(["label"] if "accuracy" in result else [])]
    for role in ROLES:
        for rank in range(1, ranks + 1):
            name = role if rank == 1 else f"{role}_{rank}"
            columns += [name, f"{name}_confidence"]
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow([*columns, "agree"])
    for picture in result["pictures"]:
        cells = [picture["file"], picture["error"], *([picture["label"]] if "accuracy" in result else [])]
        if picture["error"] is None:
            tops = [each for role in ROLES for each in picture[role]["top"]]
            cells += [value for each in tops for value in (each["label"], f"{each['probability']:.6f}")]
            cells.append("yes" if picture["agree"] else "no")
        writer.writerow(cells + [""] * (len(columns) + 1 - len(cells)))


def print_pictures(result: Result) -> None:
    """What the networks saw, two pixels to a character: in greys on a terminal that has them, else black and white."""
    console = Console()
    blocks = " ▀▄█" if console.encoding.startswith("utf") else " '.#"
    for file, pixels in result["seen"].items():
        _line(console, file)
        for upper, lower in zip(pixels[::2].tolist(), pixels[1::2].tolist(), strict=True):
            line = Text()
            for above, below in zip(upper, lower, strict=True):
                if console.color_system is None:
                    line.append(blocks[(above > 127) + 2 * (below > 127)])
                else:
                    line.append("▀", f"rgb({above},{above},{above}) on rgb({below},{below},{below})")
            console.print(line, soft_wrap=True)


def _ranking(top: list[Result]) -> str:
    return ", ".join(f"{each['label']} {each['probability']:.1%}" for each in top)


def _side_by_side(title: str, result: Result, rows: list[Row]) -> Table:
    table = Table(title=title, caption=result["device_name"], min_width=len(title))
    table.add_column("")
    for model in result["models"]:
        table.add_column(model["role"].capitalize(), justify="right")
    for name, show in rows:
        table.add_row(name, *(escape(show(model)) for model in result["models"]))
    return table


def _print_sources(console: Console, result: Result) -> None:
    for model in result["models"]:
        origin = " (ships with kd)" if model["shipped"] else ""
        _line(console, f"{model['role'].capitalize()}: {model['checkpoint']}{origin}")


def _line(console: Console, text: str) -> None:
    """A line that is not wrapped, so that a path in it can be copied, and not coloured by what it looks like."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _method(result: Result) -> str:
    if result["method"] == "labels":
        return "from labels"
    return f"distilled (T {result['temperature']:g}, alpha {result['alpha']:g})"


def _weakest_class(model: Result, classes: list[str]) -> str:
    accuracy, name = min(
        (a, name) for a, name in zip(model["per_class_accuracy"], classes, strict=True) if a is not None
    )
    return f"{name} ({accuracy:.2%})"
