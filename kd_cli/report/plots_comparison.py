"""A comparison as a plot."""

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from kd_cli.commands.results import CellResult, ComparisonResult
from kd_cli.config import CostAxis
from kd_cli.report.comparison import comparison_title
from kd_cli.report.plots import COST_LABELS, line_style, new_figure
from kd_cli.report.tables import describe_method

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_comparison(result: ComparisonResult, cost: CostAxis = CostAxis.macs) -> "Figure":
    """Mean accuracy against the cost of the student, a line for each method, with standard deviations."""
    figure = new_figure(9.5, 5, f"{comparison_title(result)}\n{result.device_name}")
    axes = figure.add_subplot()
    costs = sorted({_cost(cell, cost) for cell in result.cells})
    span = max(costs[-1] / costs[0], 2)
    # Methods stand side by side, or they would hide each other; but no nearer to another student than to their own.
    spread = min([span**0.12, *((b / a) ** 0.8 for a, b in pairwise(costs))])
    methods: dict[str, list[CellResult]] = {}
    for cell in sorted(result.cells, key=lambda cell: _cost(cell, cost)):
        methods.setdefault(describe_method(cell.method, cell.options), []).append(cell)
    order = list(dict.fromkeys(describe_method(cell.method, cell.options) for cell in result.cells))
    for number, method in enumerate(order):
        shift = spread ** ((number + 0.5) / len(order) - 0.5)
        axes.errorbar(
            [_cost(cell, cost) * shift for cell in methods[method]],
            [100 * cell.mean["accuracy"] for cell in methods[method]],
            [100 * (cell.std["accuracy"] or 0) for cell in methods[method]],
            capsize=3,
            label=method,
            **line_style(number),
        )
    axes.set_xscale("log")
    axes.set_xlim(costs[0] / span**0.12, costs[-1] * span**0.12)
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
