"""The cost of networks as a plot."""

from typing import TYPE_CHECKING

from kd_cli.commands.results import BenchmarkResult
from kd_cli.config import CostAxis
from kd_cli.report.plots import COST_LABELS, line_style, new_figure
from kd_cli.report.tables import name_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_benchmark(result: BenchmarkResult) -> "Figure":
    """Accuracy against latency and against multiply-accumulates, side by side; both costs start at zero."""
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
    latency.set_ylabel("Test accuracy (%)")
    latency.set_xlabel("Latency of one image, one thread (ms):\np50, with a bar to p95")
    macs.set_xlabel(COST_LABELS[CostAxis.macs])
    macs.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    for axes in (latency, macs):
        axes.margins(0.15)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set_xlim(left=0)
        axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", fontsize="small")
    return figure
