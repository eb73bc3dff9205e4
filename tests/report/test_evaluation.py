"""Tables of quality."""

from dataclasses import replace
from functools import partial

import pytest

from kd_cli.evaluation.measures import BiasedQuality, Quality
from kd_cli.report.evaluation import print_evaluation
from tests.report.conftest import Printed
from tests.report.results import CONFUSION, changed, evaluated_model, evaluation_result, many_classes

print_details = partial(print_evaluation, details=True)


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
        ["as kd predict states it", "0.0625 (T 1.50)", "-"],
        ["Agreement with teacher", "100.00%", "90.00%"],
        ["Weakest class", "owl (70.00%)", "owl (70.00%)"],
        ["Parameters", "1,234", "1,234"],
    ):
        assert row in found


def test_one_short_table_comes_first_and_alone_and_says_how_to_see_more(printed: Printed) -> None:
    out = printed(print_evaluation, evaluation_result())
    assert out.count("┏") == 1
    assert len(out.splitlines()) <= 20
    assert out.splitlines()[-1] == "More: --details (by class, by confidence, disagreements) and --confusion."


@pytest.mark.parametrize(("details", "confusion", "tables"), [(True, False, 4), (False, True, 3), (True, True, 6)])
def test_what_was_asked_for_comes_after_it(printed: Printed, details: bool, confusion: bool, tables: int) -> None:
    short = printed(print_evaluation, evaluation_result()).splitlines()[:-1]
    out = printed(partial(print_evaluation, details=details, confusion=confusion), evaluation_result())
    assert out.splitlines()[: len(short)] == short
    assert out.count("┏") == tables
    assert "More:" not in out


def test_accuracy_by_class_is_a_detail(printed: Printed) -> None:
    assert ["dog", "90.00%", "90.00%"] in rows(printed(print_details, evaluation_result()))


def test_networks_of_one_role_are_numbered(printed: Printed) -> None:
    student = evaluated_model("student")
    models = (evaluated_model("teacher"), student, changed(student, checkpoint="models/other.safetensors"))
    out = printed(print_details, evaluation_result(models=models))
    assert "┃ Teacher ┃ Student 1 ┃ Student 2 ┃" in " ".join(out.split())
    assert "Student 2: models/other.safetensors (ships with kd)" in out.splitlines()
    assert "Largest disagreements of student 2 and teacher" in out


def test_parameters_are_not_left_to_pass_for_cost(printed: Printed) -> None:
    assert "Parameters are not cost" in printed(print_evaluation, evaluation_result())


def test_only_bins_with_images_are_shown(printed: Printed) -> None:
    found = rows(printed(print_details, evaluation_result()))
    assert ["33% to 67%", "60.0% of 10", "60.0% of 10"] in found
    assert not any(row[0].startswith("0% to") for row in found)


def test_what_is_not_known_is_a_dash(printed: Printed) -> None:
    model = evaluated_model(agreement=None, per_class_accuracy=(None, 0.9, 0.7))
    found = rows(printed(print_details, evaluation_result(models=(model,))))
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


def test_of_many_classes_those_that_are_confused_most_often_are_shown(printed: Printed) -> None:
    out = printed(partial(print_evaluation, confusion=True), many_classes())
    assert rows(out)[-2:] == [["class 1", "class 2", "4", "40.0%"], ["class 5", "class 0", "2", "20.0%"]]
    assert "Teacher: classes confused most often" in out
    assert max(map(len, out.splitlines())) <= 120


def test_disagreements_name_label_and_both_predictions(printed: Printed) -> None:
    found = rows(printed(print_details, evaluation_result()))
    assert ["17", "owl", "owl   97.5%", "dog   62.5%", "1.50"] in found


def test_classes_that_look_like_markup_keep_their_names(printed: Printed) -> None:
    result = evaluation_result(classes=("[b]", "[/]", "[red]"))
    out = printed(partial(print_evaluation, details=True, confusion=True), result)
    for name in result.classes:
        assert name in out


def test_what_a_class_bias_comes_to_stands_beside_the_network_as_it_is(printed: Printed) -> None:
    teacher, student = evaluation_result().models
    quality = Quality(0.9, 3, 0.4, 0.1, 0.95, (0.9, 0.8, 1.0), CONFUSION, ())
    biased = BiasedQuality({"owl": 3.5, "fox": -1.25}, 50, quality)
    result = evaluation_result(models=tuple(replace(each, with_class_bias=biased) for each in (teacher, student)))
    out = printed(print_details, result)
    assert ["Errors", "6", "6"] in rows(out)
    assert ["with class bias", "3", "3"] in rows(out)
    assert "Student: class bias owl +3.50, fox -1.25, fitted to 50 validation images" in out.splitlines()
    assert "Accuracy by class, with class bias" in out
    assert sum(row[1:] == ["100.00%", "100.00%"] for row in rows(out)) == 1


def test_a_bias_that_was_given_was_fitted_to_nothing(printed: Printed) -> None:
    biased = BiasedQuality({"owl": 3.5}, None, Quality(0.9, 3, 0.4, 0.1, None, (0.9, 0.8, 1.0), CONFUSION, ()))
    out = printed(print_evaluation, evaluation_result(models=(evaluated_model(with_class_bias=biased),)))
    assert "Teacher: class bias owl +3.50" in out.splitlines()
