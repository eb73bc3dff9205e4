"""Validation images choose the epoch that is kept; the test set says what it is worth, and chooses nothing."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from kd_cli.commands.grid import Cell
from kd_cli.commands.job import StudentConfig
from kd_cli.commands.resolve import resolve_student
from kd_cli.commands.runs import Run, Worker
from kd_cli.config import DataConfig, Schedule, TrainingConfig
from kd_cli.data.prepared import load
from kd_cli.distillation.methods import FROM_LABELS
from kd_cli.evaluation.quality import measure_accuracy
from kd_cli.networks.checkpoint import load_checkpoint
from kd_cli.networks.classifier import compute_logits
from tests.conftest import CommandLine

WAVERING = ("-e", "6", "--lr", "0.05", "--schedule", "constant", "--validation-fraction", "0.2")
"""A learning rate that is too large: accuracy goes up and down."""

TEACHER = ("train-teacher", "-d", "digits", "--arch", "mlp-8", *WAVERING)
SAVED = Path("runs/models/digits/teacher.safetensors")


def train(kd: CommandLine, *options: str) -> dict[str, Any]:
    code, stdout, stderr = kd(*TEACHER, *options, "--json")
    assert code == 0, stderr
    result: dict[str, Any] = json.loads(stdout)
    return result


def test_epochs_are_measured_on_the_validation_images_and_the_result_on_the_test_set(
    kd: CommandLine, data: DataConfig
) -> None:
    result = train(kd)
    assert result["history_of"] == "validation"
    dataset = load(replace(data, validation_fraction=0.2))
    assert dataset.validation is not None
    network = load_checkpoint(SAVED, torch.device("cpu")).classifier
    for split, accuracy in (
        (dataset.test, result["accuracy"]),
        (dataset.validation, result["history"][-1]["accuracy"]),
    ):
        assert measure_accuracy(compute_logits(network, split.images), split.labels)[0] == accuracy


def test_the_best_epoch_is_saved(kd: CommandLine, data: DataConfig) -> None:
    result = train(kd, "--keep-best")
    accuracies = [epoch["accuracy"] for epoch in result["history"]]
    best = max(accuracies)
    assert result["kept_epoch"] == accuracies.index(best) + 1
    assert best > accuracies[-1]  # else this test shows nothing
    validation = load(replace(data, validation_fraction=0.2)).validation
    assert validation is not None
    checkpoint = load_checkpoint(SAVED, torch.device("cpu"))
    assert measure_accuracy(compute_logits(checkpoint.classifier, validation.images), validation.labels)[0] == best
    assert checkpoint.metadata.accuracy == result["accuracy"]
    assert checkpoint.metadata.options["kept_epoch"] == result["kept_epoch"]


def test_patience_ends_a_run_early(kd: CommandLine) -> None:
    result = train(kd, "--patience", "1")
    assert result["epochs"] == len(result["history"]) == result["kept_epoch"] + 1 < 6


def test_members_of_an_ensemble_may_end_at_different_epochs(kd: CommandLine) -> None:
    result = train(kd, "--patience", "1", "--ensemble", "3", "--lr", "0.02")
    epochs = {len(member["history"]) for member in result["members"]}
    assert len(epochs) > 1  # else this test shows nothing
    assert len(result["history"]) == min(epochs)


@pytest.mark.parametrize("option", [("--patience", "2"), ("--keep-best",)])
@pytest.mark.parametrize("command", ["train-teacher", "distill", "compare"])
def test_without_validation_images_no_epoch_is_chosen(kd: CommandLine, command: str, option: tuple[str, ...]) -> None:
    code, _, stderr = kd(command, "-d", "digits", *option)
    assert (code, stderr.count("\n")) == (2, 1)
    assert option[0] in stderr
    assert "--validation-fraction 0.1" in stderr


def test_the_table_says_which_images_and_which_epoch(kd: CommandLine) -> None:
    _, stdout, _ = kd(*TEACHER, "--keep-best")
    assert "Validation accuracy" in stdout
    assert "Kept epoch" in stdout
    assert "Test accuracy" in stdout


def test_runs_of_a_comparison_keep_their_best_epoch_too(student: StudentConfig) -> None:
    config = replace(
        student,
        data=replace(student.data, validation_fraction=0.2),
        training=TrainingConfig(epochs=6, lr=0.05, schedule=Schedule.constant, keep_best=True),
    )
    worker = Worker(config)
    measures = worker.measure(Run(Cell(config.architecture, FROM_LABELS), 0, config))
    job = resolve_student(replace(config, method=FROM_LABELS))
    training = job.start()
    assert job.dataset.validation is not None
    found = []
    for _ in range(6):
        training.run_epoch()
        logits = [
            compute_logits(training.network.eval(), each.images) for each in (job.dataset.validation, job.dataset.test)
        ]
        found.append(
            (
                measure_accuracy(logits[0], job.dataset.validation.labels)[0],
                measure_accuracy(logits[1], job.dataset.test.labels)[0],
            )
        )
    best = max(found, key=lambda pair: pair[0])
    assert measures.accuracy == best[1]
