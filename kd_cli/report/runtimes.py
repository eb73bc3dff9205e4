"""Networks in several runtimes as Rich tables, in words and as a plot."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from kd_cli.commands.results import BenchmarkResult, RuntimeResult
from kd_cli.config import Runtime
from kd_cli.evaluation.measures import Speed
from kd_cli.report.plots import line_style, new_figure
from kd_cli.report.tables import counted, new_table, number_roles, print_line, print_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SPEED_COLUMNS = ("p50", "p95", "p99", "Images/s", "Batch")
"""Percentiles of the latency of one image, and throughput in batches of the size that is best."""


def print_runtimes(console: Console, result: BenchmarkResult) -> None:
    """A table for each number of threads, and what they say of the runtimes."""
    for number in range(len(result.runtimes[0].speeds)):
        print_table(console, _table(result, number))
    for sentence in runtimes_in_words(result.runtimes):
        print_line(console, sentence)


def _table(result: BenchmarkResult, number: int) -> Table:
    """Speeds with one number of threads; the first table has what does not depend on it, too."""
    facts = ("Accuracy", "Bytes", "Load (ms)") if number == 0 else ()
    threads = counted(result.runtimes[0].speeds[number].threads, "thread")
    title = f"Runtimes on {result.dataset}, {threads}: latency of one image (ms), throughput in batches"
    table = new_table(title, result.device_name, "", "Runtime", *facts, *SPEED_COLUMNS, left=2)
    names = name_networks(result.runtimes)
    for name, before, row in zip(names, ["", *names], result.runtimes, strict=False):
        if before not in ("", name):
            table.add_section()
        own = (f"{row.accuracy:.2%}", f"{row.size_bytes:,}", f"{1e3 * row.load_seconds:,.1f}") if facts else ()
        table.add_row("" if name == before else name, row.runtime, *own, *_show(row.speeds[number]))
    return table


def _show(speed: Speed) -> tuple[str, ...]:
    latency = speed.latency_ms
    shown = [f"{value:.3f}" for value in (latency.p50, latency.p95, latency.p99)]
    return (*shown, f"{speed.throughput_per_s:,.0f}", f"{speed.batch_size:,}")


def name_networks(rows: Sequence[RuntimeResult]) -> list[str]:
    """What tables call the network of each row: its role and architecture, with a number where roles are not enough."""
    checkpoints = list({row.checkpoint: row for row in rows}.values())
    numbered = dict(zip([each.checkpoint for each in checkpoints], number_roles(checkpoints), strict=True))
    return [f"{numbered[row.checkpoint]} {row.architecture}" for row in rows]


def runtimes_in_words(rows: Sequence[RuntimeResult]) -> list[str]:
    """How each other runtime compares with PyTorch for one image and one thread; and where 8 bits do not pay."""
    sentences = []
    named = [*zip(name_networks(rows), rows, strict=True)]
    for network in dict.fromkeys(name for name, _ in named):
        p50 = {row.runtime: row.speeds[0].latency_ms.p50 for name, row in named if name == network}
        eager = p50.get(Runtime.torch.value)
        others = [f"{runtime} {eager / own:.1f}" for runtime, own in p50.items() if eager and runtime != Runtime.torch]
        if others:
            sentences.append(f"{network}, one image, one thread, times as fast as torch: {', '.join(others)}.")
        exact, int8 = p50.get(Runtime.onnx.value), p50.get(Runtime.onnx_int8.value)
        if exact and int8 and int8 > exact:
            sentences.append(f"{network}: on this processor 8 bits take {int8 / exact:.1f} times as long as 32.")
    return sentences


def draw_runtimes(result: BenchmarkResult) -> "Figure":
    """Accuracy against latency, from p50 to p95, side by side for each number of threads; latency starts at zero."""
    counts = [speed.threads for speed in result.runtimes[0].speeds]
    figure = new_figure(1 + 4.5 * len(counts), 4.5, f"Runtimes on {result.dataset}\n{result.device_name}")
    panels = figure.subplots(1, len(counts), sharey=True, squeeze=False)[0]
    for number, (axes, count) in enumerate(zip(panels, counts, strict=True)):
        for place, (name, row) in enumerate(zip(name_networks(result.runtimes), result.runtimes, strict=True)):
            latency = row.speeds[number].latency_ms
            style = line_style(place) | {"linestyle": "none", "markersize": 7}
            error = [[0], [latency.p95 - latency.p50]]
            label = f"{name}, {row.runtime}: {row.size_bytes / 1000:,.0f} kB"
            axes.errorbar([latency.p50], [100 * row.accuracy], xerr=error, capsize=6, label=label, **style)
        axes.set_xlabel(f"Latency of one image, {counted(count, 'thread')} (ms):\np50, with a bar to p95")
        axes.margins(0.15)
        axes.set_xlim(left=0)
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("Test accuracy (%)")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", fontsize="small", ncols=2)
    return figure
