"""Results -> Rich tables and JSON. The only module that prints results."""

import json
from collections.abc import Callable
from functools import partial
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from kd_cli.settings import LATENCY_THREADS, THROUGHPUT_BATCH

Result = dict[str, Any]
Row = tuple[str, Callable[[Result], str]]


def print_json(document: Any) -> None:
    """Exactly one JSON document on stdout."""
    print(json.dumps(document, indent=2))


def print_training(result: Result) -> None:
    """How a training run went, epoch by epoch, and where the network is; of an ensemble, each member's."""
    console = Console()
    for member in result.get("members", [result]):
        _print_one_training(console, member)
    if "members" in result:
        print_line(
            console,
            f"Together, by their averaged probabilities: test accuracy {result['accuracy']:.2%} "
            f"({counted(result['error_count'], 'error')}) after {result['train_seconds']:.1f} s.",
        )


def _print_one_training(console: Console, result: Result) -> None:
    title = training_title(result)
    table = Table(title=escape(title), caption=f"{result['device_name']}, seed {result['seed']}", min_width=len(title))
    table.add_column("Epoch", justify="right")
    table.add_column("Training loss", justify="right")
    table.add_column("Test accuracy", justify="right")
    table.add_column("Seconds", justify="right")
    for epoch in result["history"]:
        row = (f"{epoch['loss']:.4f}", f"{epoch['accuracy']:.2%}", f"{epoch['seconds']:.1f}")
        table.add_row(str(epoch["epoch"]), *row)
    console.print(table)
    print_line(
        console,
        f"{accuracy_in_words(result)} after {result['train_seconds']:.1f} s.",
    )
    print_line(console, f"Saved to {result['checkpoint']}")


def accuracy_in_words(result: Result) -> str:
    """How well a network that has just been trained reads the test pictures."""
    errors = counted(result["error_count"], "error")
    return f"Test accuracy {result['accuracy']:.2%} ({errors} in {result['test_images']:,} pictures)"


def training_title(result: Result) -> str:
    """Which network learnt what, and how."""
    return f"{result['role'].capitalize()} {result['architecture']} on {result['dataset']}, {_method(result)}"


COSTS: list[tuple[str, Callable[[Result], float], str]] = [
    ("Parameters", lambda model: model["parameters"], ","),
    ("MACs per picture", lambda model: model["macs"], ","),
    ("Bytes on disk", lambda model: model["size_bytes"], ","),
    (f"Latency p50, 1 picture, {LATENCY_THREADS} thread (ms)", lambda model: model["latency_ms"]["p50"], ".3f"),
    (f"Latency p95, 1 picture, {LATENCY_THREADS} thread (ms)", lambda model: model["latency_ms"]["p95"], ".3f"),
    (f"Pictures per second, batch {THROUGHPUT_BATCH}", lambda model: model["throughput_per_s"], ",.0f"),
    ("Whole test set (s)", lambda model: model["test_set_seconds"], ".3f"),
]
"""What `kd benchmark` measures: its name, where a model's result has it, and how it is written."""


def print_benchmark(result: Result) -> None:
    """Cost of the networks, side by side, with the accuracy that it buys."""
    console = Console()
    rows: list[Row] = [
        ("Architecture", lambda model: str(model["architecture"])),
        ("Accuracy", lambda model: f"{model['accuracy']:.2%}"),
        *((name, partial(_format, value, form)) for name, value, form in COSTS),
    ]
    console.print(side_by_side(f"Cost on {result['dataset']}", result, rows))
    for sentence in cost_in_words(result):
        print_line(console, sentence)
    print_sources(console, result)


def _format(value: Callable[[Result], float], form: str, model: Result) -> str:
    return format(value(model), form)


def cost_in_words(result: Result) -> list[str]:
    """What the student costs beside its teacher; nothing unless there is one of each."""
    if result["student_speedup"] is None:
        return []
    teacher, student = (next(m for m in result["models"] if m["role"] == role) for role in ("teacher", "student"))
    more = "more" if student["parameters"] > teacher["parameters"] else "fewer"
    return [
        f"One picture: the student is {result['student_speedup']:.1f} times as fast as the teacher.",
        f"The student has {student['parameters'] / teacher['parameters']:.2f} times the teacher's parameters ({more}), "
        f"and {student['macs'] / teacher['macs']:.2f} times its multiply-accumulates (MACs).",
    ]


def side_by_side(title: str, result: Result, rows: list[Row]) -> Table:
    """A column for each network, a row for each thing that is said of it."""
    table = Table(title=title, caption=result["device_name"], min_width=len(title))
    table.add_column("")
    for model in result["models"]:
        table.add_column(model["role"].capitalize(), justify="right")
    for name, show in rows:
        table.add_row(name, *(escape(show(model)) for model in result["models"]))
    return table


def print_sources(console: Console, result: Result) -> None:
    """The checkpoints that a table speaks of."""
    for model in result["models"]:
        origin = " (ships with kd)" if model["shipped"] else ""
        print_line(console, f"{model['role'].capitalize()}: {model['checkpoint']}{origin}")


def counted(number: int, noun: str) -> str:
    """1 epoch, 2 epochs, 1,000 epochs."""
    return f"{number:,} {noun}{'s' if number != 1 else ''}"


def print_line(console: Console, text: str) -> None:
    """Print a line that is not wrapped, so that a path in it can be copied, and not coloured by what it looks like."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _method(result: Result) -> str:
    named = {"temperature": "T", "alpha": "alpha", "weight": "weight", "beta": "beta"}
    options = ", ".join(f"{short} {result[name]:g}" for name, short in named.items() if name in result)
    how = "from labels" if result["method"] == "labels" else f"distilled by {result['method']}"
    if len(result.get("teachers", [])) > 1:
        how += f" from {len(result['teachers'])} teachers"
    if "train_fraction" in result:
        how += f", {result['train_fraction']:.3g} of the labels"
    return f"{how} ({options})" if options else how
