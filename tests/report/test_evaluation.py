"""Tables of quality."""

from functools import partial

import pytest

from kd_cli.report.evaluation import print_evaluation
from tests.report.conftest import Printed
from tests.report.results import CONFUSION, evaluated_model, evaluation_result


def rows(out: str) -> list[list[str]]:
    """The cells of all lines of tables."""
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines() if line.startswith("│")]


def test_networks_are_shown_side_by_side(printed: Printed) -> None:
    found = rows(printed(print_evaluation, evaluation_result()))
    for row in (
        ["Architecture", "cnn-4", "mlp-8"],
        ["Trained with", "labels", "kd"],
        ["Accuracy", "80.00%", "80.00%"],
        ["Errors", "6", "6"],
        ["NLL (nats)", "0.5000", "0.5000"],
        ["ECE (15 bins)", "0.1250", "0.1250"],
        ["Agreement with teacher", "100.00%", "90.00%"],
        ["Weakest class", "owl (70.00%)", "owl (70.00%)"],
        ["Parameters", "1,234", "1,234"],
        ["dog", "90.00%", "90.00%"],
    ):
        assert row in found


def test_parameters_are_not_left_to_pass_for_cost(printed: Printed) -> None:
    assert "Parameters are not cost" in printed(print_evaluation, evaluation_result())


def test_only_bins_with_images_are_shown(printed: Printed) -> None:
    found = rows(printed(print_evaluation, evaluation_result()))
    assert ["33% to 67%", "10, 50.0% -> 60.0%", "10, 50.0% -> 60.0%"] in found
    assert not any(row[0].startswith("0% to") for row in found)


def test_what_is_not_known_is_a_dash(printed: Printed) -> None:
    model = evaluated_model(agreement=None, per_class_accuracy=(None, 0.9, 0.7))
    found = rows(printed(print_evaluation, evaluation_result(models=(model,))))
    assert ["Agreement with teacher", "-"] in found
    assert ["cat", "-"] in found
    assert ["Weakest class", "owl (70.00%)"] in found


@pytest.mark.parametrize("confusion", [False, True])
def test_confusion_is_shown_on_request(printed: Printed, confusion: bool) -> None:
    found = rows(printed(partial(print_evaluation, confusion=confusion), evaluation_result()))
    expected = [
        [name, *(str(count or "") for count in row)] for name, row in zip(("cat", "dog", "owl"), CONFUSION, strict=True)
    ]
    assert [found.count(row) for row in expected] == [2 * confusion] * 3


def test_disagreements_name_label_and_both_predictions(printed: Printed) -> None:
    found = rows(printed(print_evaluation, evaluation_result()))
    assert ["17", "owl", "owl   97.5%", "dog   62.5%", "1.50"] in found


def test_classes_that_look_like_markup_keep_their_names(printed: Printed) -> None:
    result = evaluation_result(classes=("[b]", "[/]", "[red]"))
    out = printed(partial(print_evaluation, confusion=True), result)
    for name in result.classes:
        assert name in out
