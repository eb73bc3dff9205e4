"""Tables of training runs and of ensembles."""

from typing import Any

import pytest

from kd_cli.commands.results import TrainingResult
from kd_cli.report.training import accuracy_in_words, print_training, training_title
from tests.report.conftest import Printed
from tests.report.results import ensemble_result, training_result


def test_a_run_is_named_by_network_data_and_method() -> None:
    assert training_title(training_result()) == "Student mlp-8 on some-data, trained with kd (T 4, alpha 0.9)"


def test_a_run_shows_every_epoch(printed: Printed) -> None:
    rows = [line.replace("│", "").split() for line in printed(print_training, training_result()).splitlines()]
    assert ["1", "1.2500", "87.00%", "1.2"] in rows
    assert ["2", "0.7500", "92.10%", "1.3"] in rows


@pytest.mark.parametrize(
    ("changes", "caption"),
    [
        ({}, "cpu (1 thread), seed 3"),
        ({"teachers": ("a", "b")}, "cpu (1 thread), seed 3, 2 teachers averaged"),
        ({"options": {"train_fraction": 0.05}}, "cpu (1 thread), seed 3, 5 % of the labels"),
        ({"options": {"train_fraction": 1.0}}, "cpu (1 thread), seed 3"),
        ({"options": {"omit_class": ["3", "4"], "only_classes": []}}, "cpu (1 thread), seed 3, no image of 3, 4"),
        ({"options": {"omit_class": [], "only_classes": ["7"]}}, "cpu (1 thread), seed 3, images of 7 alone"),
    ],
)
def test_a_run_is_told_from_others_of_the_same_title(printed: Printed, changes: dict[str, Any], caption: str) -> None:
    lines = [line.strip() for line in printed(print_training, training_result(**changes)).splitlines()]
    assert caption in lines


@pytest.mark.parametrize("outputs", ["computed once, kept in cache/x", None])
def test_a_run_says_how_it_came_by_the_teachers_outputs(printed: Printed, outputs: str | None) -> None:
    lines = printed(print_training, training_result(teacher_outputs=outputs)).splitlines()
    told = [line for line in lines if line.startswith("Teacher outputs:")]
    assert told == ([f"Teacher outputs: {outputs}"] if outputs else [])


def test_an_ensemble_shows_its_members_and_then_what_they_achieve_together(printed: Printed) -> None:
    out = printed(print_training, ensemble_result(3))
    assert [out.count(f"Saved to models/teacher-{seed}.safetensors") for seed in range(3)] == [1, 1, 1]
    assert out.splitlines()[-1] == (
        "Ensemble of 3, with averaged probabilities. Test accuracy 95.50% (45 errors in 1,000 images) after 7.5 s."
    )


@pytest.mark.parametrize(
    ("result", "text"),
    [
        (training_result(), "Test accuracy 92.10% (79 errors in 1,000 images)"),
        (training_result(accuracy=0.5, error_count=1, test_images=2), "Test accuracy 50.00% (1 error in 2 images)"),
    ],
)
def test_accuracy_is_said_with_the_errors_behind_it(result: TrainingResult, text: str) -> None:
    assert accuracy_in_words(result) == text
