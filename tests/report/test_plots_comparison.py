"""Plots of comparisons."""

import pytest

from kd_cli.commands.results import CellResult
from kd_cli.config import CostAxis
from kd_cli.report.comparison import draw_comparison
from tests.report.axes import axes_of
from tests.report.results import cell_result, changed, comparison_result

pytest.importorskip("matplotlib", reason="plots need the extra 'plot'")

RESULT = comparison_result(
    [
        cell_result(method, accuracies, student=student, macs=macs, parameters=2 * macs)
        for student, macs in (("mlp-4", 3000), ("mlp-8", 6000))
        for method, accuracies in (("labels", (0.9, 0.92)), ("kd", (0.93, 0.97)))
    ]
)


def cost_of(cell: CellResult, cost: CostAxis) -> int:
    return cell.macs if cost is CostAxis.macs else cell.parameters


def test_means_and_standard_deviations_are_shown() -> None:
    (axes,) = axes_of(draw_comparison(RESULT))
    for container, method in zip(axes.containers, ("labels", "kd"), strict=True):
        own = [cell for cell in RESULT.cells if cell.method == method]
        assert container[0].get_ydata().tolist() == [100 * cell.mean["accuracy"] for cell in own]
        ends = [segment[:, 1].tolist() for segment in container[2][0].get_segments()]
        for (low, high), cell in zip(ends, own, strict=True):
            assert high - low == pytest.approx(200 * (cell.std["accuracy"] or 0))


def test_the_legend_names_the_methods() -> None:
    (legend,) = draw_comparison(RESULT).legends
    assert legend.get_title().get_text() == "Trained with"
    assert [text.get_text() for text in legend.get_texts()] == ["labels", "kd (T 4, alpha 0.9)"]


@pytest.mark.parametrize("cost", list(CostAxis))
def test_methods_stay_near_the_cost_of_their_student(cost: CostAxis) -> None:
    (axes,) = axes_of(draw_comparison(RESULT, cost))
    costs = sorted({cost_of(cell, cost) for cell in RESULT.cells})
    assert axes.get_xticks().tolist() == costs
    for container in axes.containers:
        for x, own in zip(container[0].get_xdata(), costs, strict=True):
            assert min(costs, key=lambda each: abs(each - x)) == own


def test_parameters_are_not_called_a_cost() -> None:
    (axes,) = axes_of(draw_comparison(RESULT, CostAxis.parameters))
    assert "not a cost" in axes.get_xlabel()


def test_one_run_of_one_student_can_be_drawn() -> None:
    draw_comparison(comparison_result([cell_result("labels", [0.9])])).draw_without_rendering()


def test_students_of_nearly_the_same_cost_keep_their_names() -> None:
    close = [
        changed(cell, student=name, macs=macs)
        for cell, name, macs in zip(
            RESULT.cells, ("mlp-8", "cnn-1", "mlp-9", "cnn-2"), (1000, 1010, 1010, 9000), strict=True
        )
    ]
    (axes,) = axes_of(draw_comparison(changed(RESULT, cells=tuple(close))))
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert labels == ["1,000\nmlp-8", "\n\n1,010\ncnn-1, mlp-9", "9,000\ncnn-2"]
