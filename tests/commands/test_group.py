"""Commands that several processes carry out together: one of them writes, and all of them know the result."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from kd_cli.commands.distill import distill
from kd_cli.commands.group import warn_if_too_small
from kd_cli.commands.job import StudentConfig
from kd_cli.commands.results import TrainingResult
from kd_cli.commands.train_teacher import train_teacher
from kd_cli.config import DataConfig, OutputConfig, RunConfig, TrainingConfig
from kd_cli.data.batches import BatchSource
from kd_cli.data.dataset import Dataset
from kd_cli.networks.checkpoint import load_checkpoint
from kd_cli.networks.classifier import build_classifier
from kd_cli.networks.spec import parse_spec
from kd_cli.training.group import Group
from kd_cli.training.loop import Callback, Epoch, Training
from kd_cli.training.objective import label_objective
from kd_cli.training.resume import ResumeState
from tests.training.ranks import can_fork, errors_of_command, run_on_ranks

pytestmark = can_fork


class StopAfter(Callback):
    """Ctrl-C in the middle of an epoch, in every process."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def on_epoch_begin(self, training: Training) -> None:
        if training.epochs_done == self.epochs:
            raise KeyboardInterrupt


class Count(Callback):
    """Writes a file for each epoch that it sees."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_epoch_end(self, training: Training, epoch: Epoch) -> None:
        (self.folder / f"{epoch.number} {training.group.rank}").touch()


def without_seconds(result: TrainingResult) -> TrainingResult:
    history = tuple(replace(epoch, seconds=0.0) for epoch in result.history)
    return replace(result, train_seconds=0.0, history=history)


def test_a_distillation_is_that_of_one_process_and_the_first_one_shows_it(
    student: StudentConfig, tmp_path: Path
) -> None:
    alone = distill(student, OutputConfig(tmp_path / "alone.safetensors"))
    output = OutputConfig(tmp_path / "together.safetensors")
    (tmp_path / "seen").mkdir()
    first, second = run_on_ranks(2, lambda: distill(student, output, callbacks=[Count(tmp_path / "seen")]))
    assert without_seconds(first) == without_seconds(second)
    assert first.options["processes"] == 2
    assert "2 processes" in first.device_name
    assert first.history[0].loss == pytest.approx(alone.history[0].loss, rel=1e-4)
    assert abs(first.accuracy - alone.accuracy) <= 0.01
    assert [path.name for path in (tmp_path / "seen").iterdir()] == ["1 0"]
    saved = load_checkpoint(tmp_path / "together.safetensors", torch.device("cpu"))
    assert saved.metadata.accuracy == first.accuracy


def test_a_run_goes_on_with_another_number_of_processes(student: StudentConfig, tmp_path: Path) -> None:
    student = replace(student, training=TrainingConfig(epochs=3))
    unbroken = distill(student, OutputConfig(tmp_path / "unbroken.safetensors"))
    path = tmp_path / "student.safetensors"
    errors = errors_of_command(2, lambda: distill(student, OutputConfig(path), callbacks=[StopAfter(2)]))
    assert "keeps 2 of 3 epochs: repeat the command with --resume" in errors[0]
    (resumed,) = run_on_ranks(1, lambda: distill(student, OutputConfig(path, resume=True)))
    assert [epoch.loss for epoch in resumed.history] == pytest.approx(
        [epoch.loss for epoch in unbroken.history], rel=1e-3
    )
    assert not list(tmp_path.glob("student*.resume"))


@pytest.mark.slow
def test_members_of_an_ensemble_are_trained_by_all(data: DataConfig, run: RunConfig) -> None:
    training = TrainingConfig(epochs=1)
    first, second = run_on_ranks(2, lambda: train_teacher(parse_spec("mlp-8"), data, training, run, ensemble=2))
    assert first.accuracy == second.accuracy
    assert [Path(member.checkpoint).exists() for member in first.members] == [True, True]


def test_a_batch_smaller_than_the_processes_is_refused(student: StudentConfig) -> None:
    student = replace(student, training=TrainingConfig(batch_size=2))
    (error,) = set(errors_of_command(3, lambda: distill(student)))
    assert "--batch-size 2 is of all processes together, and there are 3" in error


@pytest.mark.parametrize(
    ("spec", "processes", "said"), [("cnn-32", 2, True), ("cnn-32", 1, False), ("resnet-8", 2, False)]
)
def test_networks_that_are_too_small_are_told_of(
    spec: str, processes: int, said: bool, tiny: Dataset, caplog: pytest.LogCaptureFixture
) -> None:
    training = Training(
        build_classifier(parse_spec(spec), tiny.info), label_objective, BatchSource(tiny.train, 64, 0), TrainingConfig()
    )
    training.group = Group(size=processes)
    warn_if_too_small(training)
    expected = "several processes are slower than one for a network this small (24.8 million multiply-accumulates"
    assert [message.startswith(expected) for message in caplog.messages] == [True] * said


def test_a_process_that_is_not_the_first_writes_no_state(tiny: Dataset, tmp_path: Path) -> None:
    network = build_classifier(parse_spec("mlp-8"), tiny.info)
    training = Training(network, label_objective, BatchSource(tiny.train, 64, 0), TrainingConfig(epochs=2))
    for rank, written in ((1, False), (0, True)):
        state = ResumeState(tmp_path / "student.safetensors", {}, Group(rank=rank, size=2))
        state.on_epoch_end(training, training.run_epoch())
        training.epochs_done = 0
        assert state.path.exists() == written
