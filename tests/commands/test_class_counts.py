"""Three classes instead of ten, from training to every report of it."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from kd_cli.distillation.methods import METHODS
from kd_cli.networks.checkpoint import load_checkpoint
from tests.conftest import CommandLine, make_dataset
from tests.sources import register

THREE = ("--dataset", "three", "--data-dir", "data", "--device", "cpu")
ONE_EPOCH = ("--epochs", "1")


@pytest.fixture
def three(kd: CommandLine, monkeypatch: pytest.MonkeyPatch, short_measurements: None) -> CommandLine:
    """The command line, with a data set of three classes and a teacher for it."""
    register(monkeypatch, "three", make_dataset(classes=3))

    def run(command: str, *arguments: object) -> tuple[int, str, str]:
        return kd(command, *THREE, *arguments)

    assert run("train-teacher", *ONE_EPOCH, "--arch", "cnn-4")[0] == 0
    return run


def read(answer: tuple[int, str, str]) -> Any:
    code, stdout, stderr = answer
    assert code == 0, stderr
    return json.loads(stdout)


def test_a_teacher_tells_three_classes_apart(three: CommandLine) -> None:
    checkpoint = load_checkpoint(Path("runs/models/three/teacher.safetensors"), torch.device("cpu"))
    assert checkpoint.metadata.data.classes == ("class 0", "class 1", "class 2")
    assert checkpoint.classifier(torch.zeros(2, 1, 28, 28)).shape == (2, 3)
    assert checkpoint.metadata.accuracy > 0.9


@pytest.mark.parametrize("method", METHODS)
def test_every_method_distils_three_classes(three: CommandLine, method: str) -> None:
    result = read(three("distill", *ONE_EPOCH, "--method", method, "--student", "cnn-2", "--json"))
    assert result["accuracy"] > 0.5
    assert result["parameters"] == 25 * 2 + 2 + 32 * 128 + 128 + 128 * 3 + 3


def test_fewer_labels_are_shared_by_three_classes(three: CommandLine) -> None:
    result = read(three("distill", *ONE_EPOCH, "--train-fraction", "0.1", "--transfer", "all", "--json"))
    assert result["accuracy"] > 0.5


def test_an_ensemble_averages_three_classes(three: CommandLine) -> None:
    assert three("train-teacher", *ONE_EPOCH, "--arch", "mlp-8", "--ensemble", "2")[0] == 0
    assert len(read(three("distill", *ONE_EPOCH, "--ensemble", "2", "--json"))["teachers"]) == 2


def test_evaluations_have_three_rows_and_columns(three: CommandLine) -> None:
    assert three("distill", *ONE_EPOCH)[0] == 0
    result = read(three("evaluate", "--json"))
    assert result["classes"] == ["class 0", "class 1", "class 2"]
    for model in result["models"]:
        assert [len(row) for row in model["confusion"]] == [3, 3, 3]
        assert len(model["per_class_accuracy"]) == 3
    assert "class 2" in three("evaluate", "--confusion")[1]


def test_benchmarks_and_comparisons_work_with_three_classes(three: CommandLine) -> None:
    assert three("distill", *ONE_EPOCH)[0] == 0
    assert [model["macs"] for model in read(three("benchmark", "--json"))["models"]] == [
        400 * 25 * 4 + 64 * 128 + 128 * 3,
        784 * 128 + 128 * 3,
    ]
    compare = ("--students", "mlp-8", "--seeds", "2", "--jobs", "1", "--results-dir", "results")
    cells = read(three("compare", *ONE_EPOCH, *compare, "--json"))["cells"]
    assert [cell["parameters"] for cell in cells] == [785 * 8 + 9 * 3] * 2


@pytest.mark.parametrize("command", ["train-teacher", "distill", "evaluate"])
def test_plots_have_room_for_three_classes(three: CommandLine, command: str) -> None:
    pytest.importorskip("matplotlib")
    assert three("distill", *ONE_EPOCH)[0] == 0
    epochs = () if command == "evaluate" else ONE_EPOCH
    code, _, stderr = three(command, *epochs, "--plot", "plot.png")
    assert (code, stderr) == (0, "")
    assert Path("plot.png").read_bytes().startswith(b"\x89PNG")
