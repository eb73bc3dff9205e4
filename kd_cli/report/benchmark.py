"""The cost of networks as a Rich table, in words and as a plot."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from kd_cli.commands.results import BenchmarkedModel, BenchmarkResult
from kd_cli.config import LATENCY_THREADS, THROUGHPUT_BATCH, CostAxis, Role
from kd_cli.report.plots import COST_LABELS, line_style, new_figure
from kd_cli.report.runtimes import draw_runtimes, print_runtimes
from kd_cli.report.tables import (
    counted,
    name_of,
    open_console,
    print_checkpoints,
    print_line,
    print_table,
    table_of_models,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDE = 0.25
"""Share of the median: where the middle half of the repeats takes more, something else disturbed them."""

BUSY = 0.5
"""Programs for each core of the machine: more than this, and the cores that a benchmark uses may not be its own."""


class CostRow(NamedTuple):
    """A thing that `kd benchmark` measures: its name with the unit, its value for a model, how the value is written.

    ``quartiles`` are those between which the middle half of the repeats lies, where the value is their median.
    """

    name: str
    value: Callable[[BenchmarkedModel], float]
    form: str
    quartiles: Callable[[BenchmarkedModel], tuple[float, float]] | None = None

    def show(self, model: BenchmarkedModel) -> str:
        """The value as tables show it."""
        return format(self.value(model), self.form)

    def spread(self, model: BenchmarkedModel) -> float:
        """The width of the repeats' middle half, as a share of the median."""
        if self.quartiles is None:
            return 0
        low, high = self.quartiles(model)
        return (high - low) / self.value(model)

    def show_quartiles(self, model: BenchmarkedModel) -> str:
        """The middle half of the repeats as tables show it."""
        return "-".join(format(each, self.form) for each in (self.quartiles(model) if self.quartiles else ()))


COSTS = (
    CostRow("Parameters", lambda model: model.parameters, ","),
    CostRow("MACs per image", lambda model: model.macs, ","),
    CostRow("Bytes on disk", lambda model: model.size_bytes, ","),
    CostRow(
        f"Latency p50, 1 image, {LATENCY_THREADS} thread (ms)",
        lambda model: model.latency_ms.p50,
        ".3f",
        lambda model: (model.latency_ms.p25, model.latency_ms.p75),
    ),
    CostRow(f"Latency p95, 1 image, {LATENCY_THREADS} thread (ms)", lambda model: model.latency_ms.p95, ".3f"),
    CostRow(
        f"Images per second, batch {THROUGHPUT_BATCH}",
        lambda model: model.throughput_per_s,
        ",.0f",
        lambda model: (model.throughput_quartiles_per_s.p25, model.throughput_quartiles_per_s.p75),
    ),
    CostRow("Whole test set (s)", lambda model: model.test_set_seconds, ".3f"),
)


def print_benchmark(result: BenchmarkResult) -> None:
    """Cost of the networks, side by side, with the accuracy that it buys; in their runtimes, where there are some."""
    console = open_console()

    def measures(model: BenchmarkedModel) -> Iterator[tuple[str, str]]:
        yield "Architecture", model.architecture
        yield "Accuracy", f"{model.accuracy:.2%}"
        for row in COSTS:
            yield row.name, row.show(model)
            if row.quartiles is not None:
                yield "  middle half of the repeats", row.show_quartiles(model)

    if result.runtimes:
        print_runtimes(console, result)
    else:
        print_table(console, table_of_models(f"Cost on {result.dataset}", result.device_name, result.models, measures))
    for sentence in cost_in_words(result):
        print_line(console, sentence)
    print_checkpoints(console, result.dataset, result.models)


def draw_benchmark(result: BenchmarkResult) -> "Figure":
    """Accuracy against latency and against multiply-accumulates, side by side; both costs start at zero.

    Where there are runtimes, it is accuracy against their latencies.
    """
    if result.runtimes:
        return draw_runtimes(result)
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    figure = new_figure(9, 4.5, f"Cost on {result.dataset}\n{result.device_name}")
    latency, macs = figure.subplots(1, 2, sharey=True)
    for number, model in enumerate(result.models):
        style = line_style(number) | {"linestyle": "none", "markersize": 7}
        accuracy, p50, p95 = 100 * model.accuracy, model.latency_ms.p50, model.latency_ms.p95
        latency.errorbar([p50], [accuracy], xerr=[[0], [p95 - p50]], capsize=6, **style)
        label = (
            f"{name_of(model)}: {model.parameters:,} parameters (not a cost), {model.size_bytes / 1000:,.0f} kB on disk"
        )
        macs.plot([model.macs], [accuracy], label=label, **style)
    latency.set(xlabel="Latency of one image, one thread (ms):\np50, with a bar to p95", ylabel="Test accuracy (%)")
    macs.set_xlabel(COST_LABELS[CostAxis.macs])
    macs.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    for axes in (latency, macs):
        axes.margins(0.15)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set_xlim(left=0)
        axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", fontsize="small")
    return figure


def cost_in_words(result: BenchmarkResult) -> list[str]:
    """The student's cost beside its teacher's, if there is one of each, and what makes the times doubtful."""
    sentences = []
    if result.student_speedup is not None:
        teacher, student = (next(m for m in result.models if m.role == role.value) for role in Role)
        parameters, macs = student.parameters / teacher.parameters, student.macs / teacher.macs
        sentences = [
            f"One image: the student is {result.student_speedup:.1f} times as fast as the teacher.",
            f"Compared with the teacher, the student has {_more(parameters)} parameters ({parameters:.2f} times) and "
            f"{_more(macs)} multiply-accumulates (MACs, {macs:.2f} times). Parameters are not cost.",
        ]
    doubts = _find_doubts(result)
    if doubts:
        sentences.append(f"Measured on a busy machine: {'; '.join(doubts)}. Repeat it when other programs have ended.")
    return sentences


def _find_doubts(result: BenchmarkResult) -> list[str]:
    """Signs that other programs had a part in the times."""
    doubts = []
    if result.load_average is not None and result.load_average > BUSY * result.cores:
        doubts.append(f"load average {result.load_average:.1f} on {counted(result.cores, 'core')}")
    widest = max(row.spread(model) for row in COSTS for model in result.models)
    if widest > WIDE:
        doubts.append(f"the middle half of the repeats spreads over {widest:.0%} of their median")
    return doubts


def _more(ratio: float) -> str:
    return "more" if ratio > 1 else "fewer" if ratio < 1 else "as many"
