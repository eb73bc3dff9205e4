"""Plots of cost."""

import pytest

from kd_cli.report.benchmark import draw_benchmark
from tests.report.axes import axes_of
from tests.report.results import benchmark_result

pytest.importorskip("matplotlib", reason="plots need the extra 'plot'")


def test_accuracy_is_shown_against_both_costs_side_by_side() -> None:
    result = benchmark_result()
    latency, macs = axes_of(draw_benchmark(result))
    for container, shown, model in zip(latency.containers, macs.get_lines(), result.models, strict=True):
        accuracy, p50 = 100 * model.accuracy, model.latency_ms.p50
        assert container[0].get_xydata().tolist() == [[p50, accuracy]]
        (bar,) = container[2][0].get_segments()
        assert bar[:, 0].tolist() == pytest.approx([p50, model.latency_ms.p95])
        assert shown.get_xydata().tolist() == [[model.macs, accuracy]]


def test_costs_start_at_zero() -> None:
    assert [axes.get_xlim()[0] for axes in axes_of(draw_benchmark(benchmark_result()))] == [0, 0]


def test_parameters_are_named_and_not_called_a_cost() -> None:
    (legend,) = draw_benchmark(benchmark_result()).legends
    texts = [text.get_text() for text in legend.get_texts()]
    assert ["67,786 parameters (not a cost)" in texts[0], "101,770 parameters (not a cost)" in texts[1]] == [True, True]
