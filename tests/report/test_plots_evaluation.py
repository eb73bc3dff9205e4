"""Plots of quality."""

import pytest

from kd_cli.evaluation.measures import Bin
from kd_cli.report.evaluation import draw_evaluation
from tests.report.axes import axes_of, points
from tests.report.results import CLASSES, CONFUSION, evaluated_model, evaluation_result, many_classes

pytest.importorskip("matplotlib", reason="plots need the extra 'plot'")

RESULT = evaluation_result()


def test_every_count_is_written_into_the_confusion_matrix() -> None:
    expected = {(j, i): str(count) for i, row in enumerate(CONFUSION) for j, count in enumerate(row) if count}
    for axes in axes_of(draw_evaluation(RESULT))[:2]:
        assert {text.get_position(): text.get_text() for text in axes.texts} == expected


def test_many_classes_are_shaded_without_names_and_counts() -> None:
    figure = draw_evaluation(many_classes())
    figure.draw_without_rendering()
    confusion = axes_of(figure)[0]
    assert int(confusion.get_images()[0].get_array().sum()) == 6
    assert len(confusion.texts) == 0
    assert len(confusion.get_xticks()) < 20


def test_errors_alone_are_shaded_and_by_one_scale_for_all_networks() -> None:
    better = evaluated_model("student", confusion=((10, 0, 0), (0, 10, 0), (0, 1, 9)), error_count=1)
    result = evaluation_result(models=(evaluated_model("teacher"), better))
    matrices = [axes.get_images()[0] for axes in axes_of(draw_evaluation(result))[:2]]
    assert matrices[0].get_clim() == matrices[1].get_clim()
    for matrix, model in zip(matrices, result.models, strict=True):
        shades = matrix.get_array()
        assert shades.diagonal().tolist() == [0] * 3
        assert int(shades.sum()) == model.error_count


def test_the_bins_that_have_images_are_shown_and_how_many() -> None:
    axes = axes_of(draw_evaluation(RESULT))
    for number in range(2):
        reliability, counts = axes[2 + number], axes[4 + number]
        assert points(reliability, 1) == ([50, 95], [60, 90])
        assert [bar.get_height() for bar in counts.patches] == [10, 20]
        assert [bar.get_hatch() for bar in counts.patches] == ["///"] * 2


def test_the_interval_of_a_bin_stays_within_0_and_100() -> None:
    sure = evaluated_model(calibration=(Bin(0.9, 1.0, 3, 0.95, 1.0),))
    reliability = axes_of(draw_evaluation(evaluation_result(models=(sure,))))[1]
    ((low, high),) = [segment[:, 1] for segment in reliability.containers[0][2][0].get_segments()]
    assert high == pytest.approx(100)
    assert 0 < low < 60  # three images prove little


@pytest.mark.parametrize(
    ("classes", "shown"), [(CLASSES, CLASSES), (("お", "き", "す"), ("0", "1", "2"))], ids=["latin", "kana"]
)
def test_classes_are_named_where_the_font_has_their_letters(
    classes: tuple[str, ...], shown: tuple[str, ...], recwarn: pytest.WarningsRecorder
) -> None:
    figure = draw_evaluation(evaluation_result(classes=classes))
    figure.draw_without_rendering()
    labels = tuple(label.get_text() for label in axes_of(figure)[0].get_yticklabels())
    assert labels == shown
    assert not recwarn.list


def test_a_perfect_network_alone_can_be_drawn() -> None:
    perfect = evaluated_model(
        confusion=((10, 0, 0), (0, 10, 0), (0, 0, 10)), calibration=(Bin(14 / 15, 1.0, 30, 1.0, 1.0),)
    )
    draw_evaluation(evaluation_result(models=(perfect,))).draw_without_rendering()


def test_the_ece_is_the_fraction_that_tables_and_json_have() -> None:
    titles = [axes.get_title() for axes in axes_of(draw_evaluation(RESULT))[2:4]]
    assert [title.split("reliability, ")[1] for title in titles] == ["ECE 0.1250"] * 2
