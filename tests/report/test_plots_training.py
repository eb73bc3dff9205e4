"""Plots of training runs."""

import pytest

from kd_cli.report.training import draw_training
from tests.report.axes import axes_of, points
from tests.report.results import ensemble_result, training_result

pytest.importorskip("matplotlib", reason="plots need the extra 'plot'")


def test_loss_and_accuracy_of_every_epoch_are_shown() -> None:
    loss, accuracy = axes_of(draw_training(training_result()))
    assert points(loss) == ([1, 2], [1.25, 0.75])
    assert points(accuracy)[1] == pytest.approx([87, 92.1])


def test_every_member_of_an_ensemble_is_shown() -> None:
    figure = draw_training(ensemble_result(3))
    assert [len(axes.get_lines()) for axes in axes_of(figure)] == [3, 3]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["seed 0", "seed 1", "seed 2"]


def test_a_single_run_needs_no_legend() -> None:
    assert draw_training(training_result()).legends == []


@pytest.mark.parametrize(
    ("method", "unit"), [("labels", "cross-entropy (nats)"), ("kd", "CE (nats)"), ("rkd", "that of rkd (no unit)")]
)
def test_the_loss_has_its_methods_unit(method: str, unit: str) -> None:
    assert axes_of(draw_training(training_result(method=method)))[0].get_ylabel().endswith(unit)
