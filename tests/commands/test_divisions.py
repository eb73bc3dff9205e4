"""A folder of images is divided and sized for every command as it was for the networks that are used.

Else a network would be tested with images that it was trained on.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import CommandLine, read_json
from tests.data.images import make_folder

PICS = ("--dataset", "pics", "--data-dir", "data", "--device", "cpu")
NAMED_BY_CHECKPOINT = ("--data-dir", "data", "--device", "cpu")
TRAINING = ("--epochs", "1", "--force", "--json")
OTHERWISE = ("--test-fraction", "0.3", "--image-size", "12")
TEST_IMAGES = 18
"""0.3 of three classes of 20."""

MAY_KNOW = "it may know some of the test images"


@pytest.fixture
def teacher(kd: CommandLine) -> dict[str, Any]:
    """A teacher of small images, three in ten of which it was not trained with."""
    make_folder(Path("pics"), classes=3, each=20, channels=1)
    result: dict[str, Any] = read_json(kd("train-teacher", *PICS, *TRAINING, *OTHERWISE, "--arch", "mlp-4"))
    assert result["test_images"] == TEST_IMAGES
    return result


@pytest.mark.parametrize(
    ("data", "given"),
    [(PICS, True), (PICS, False), (NAMED_BY_CHECKPOINT, True)],
    ids=["all named", "data named", "networks named"],
)
def test_an_evaluation_finds_what_training_reported(
    kd: CommandLine, teacher: dict[str, Any], data: tuple[str, ...], given: bool
) -> None:
    student = read_json(kd("distill", *PICS, *TRAINING, "--student", "mlp-4"))
    files = (teacher["checkpoint"], student["checkpoint"]) if given else ()
    code, _, stderr = kd("evaluate", *data, *files)
    assert (code, stderr) == (0, "")
    result = read_json(kd("evaluate", *data, *files, "--json"))
    assert result["test_images"] == student["test_images"] == TEST_IMAGES
    assert [model["accuracy"] for model in result["models"]] == [teacher["accuracy"], student["accuracy"]]


@pytest.mark.parametrize("given", [True, False])
def test_a_student_is_tested_with_what_its_teacher_was_not_trained_with(
    kd: CommandLine, teacher: dict[str, Any], given: bool
) -> None:
    files = ("--teacher", teacher["checkpoint"]) if given else ()
    code, stdout, stderr = kd("distill", *PICS, *TRAINING, *files, "--student", "mlp-4")
    assert (code, stderr) == (0, "")
    assert json.loads(stdout)["test_images"] == TEST_IMAGES
    compare = ("--students", "mlp-4", "--seeds", "1", "--jobs", "1")
    assert read_json(kd("compare", *PICS, *TRAINING, *files, *compare))["test_images"] == TEST_IMAGES


@pytest.mark.usefixtures("short_measurements")
def test_a_benchmark_has_the_accuracy_that_training_reported(kd: CommandLine, teacher: dict[str, Any]) -> None:
    (model,) = read_json(kd("benchmark", *NAMED_BY_CHECKPOINT, teacher["checkpoint"], "--json"))["models"]
    assert model["accuracy"] == teacher["accuracy"]


def test_what_the_command_line_says_is_done_with_a_warning(kd: CommandLine, teacher: dict[str, Any]) -> None:
    evaluate = ("evaluate", *PICS, teacher["checkpoint"], "--json")
    code, stdout, stderr = kd(*evaluate, "--test-fraction", "0.5")
    assert (code, stderr.count("\n"), MAY_KNOW in stderr) == (0, 1, True)
    assert '"test_images": 30' in stdout
    code, _, stderr = kd(*evaluate, "--image-size", "24")
    assert (code, "takes images of shape (1, 12, 12), not (1, 24, 24)" in stderr) == (1, True)


def test_networks_of_other_images_of_the_classes_decide_nothing(kd: CommandLine, teacher: dict[str, Any]) -> None:
    make_folder(Path("others"), classes=3, each=20, height=12, width=12, channels=1)
    others = ("--dataset", "others", *PICS[2:])
    code, stdout, stderr = kd("evaluate", *others, teacher["checkpoint"], "--json")
    assert (code, MAY_KNOW in stderr) == (0, True)
    assert '"test_images": 12' in stdout


def test_how_many_images_were_set_aside_to_validate_with_is_recorded(kd: CommandLine, teacher: dict[str, Any]) -> None:
    assert teacher["options"]["validation_images"] == 6  # a tenth of 42, at least one in ten of each class
