"""The callbacks of a run: a history of its epochs, and a progress bar."""

import io
import sys
from collections.abc import Callable

import pytest
import torch
from torch import nn

from kd_cli.config import TrainingConfig
from kd_cli.data.batches import BatchSource
from kd_cli.data.dataset import Dataset
from kd_cli.evaluation.quality import measure_accuracy
from kd_cli.networks.classifier import build_classifier, compute_logits
from kd_cli.networks.spec import parse_spec
from kd_cli.training.callbacks import History, ProgressBar
from kd_cli.training.loop import Callback, Epoch, EpochResult, Training, fit
from kd_cli.training.objective import label_objective


@pytest.fixture
def training(tiny: Dataset) -> Training:
    """Two epochs of 60 steps."""
    torch.manual_seed(0)
    network = build_classifier(parse_spec("mlp-8"), tiny.info)
    return Training(network, label_objective, BatchSource(tiny.train, 10, seed=0), TrainingConfig(2, batch_size=10))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


Show = Callable[[], str]


@pytest.fixture
def show(training: Training, monkeypatch: pytest.MonkeyPatch) -> Show:
    """Train with a bar, and give what a terminal in place of stderr is told."""

    def run() -> str:
        terminal = Terminal()
        monkeypatch.setattr(sys, "stderr", terminal)
        fit(training, [ProgressBar("student mlp-8")])
        monkeypatch.undo()
        return terminal.getvalue()

    return run


class Keep(Callback):
    def __init__(self) -> None:
        self.epochs: list[Epoch] = []

    def on_epoch_end(self, training: Training, epoch: Epoch) -> None:
        self.epochs.append(epoch)


def test_history_has_what_the_loop_says_of_each_epoch_and_a_test_after_it(training: Training, tiny: Dataset) -> None:
    def test(network: nn.Module) -> tuple[float, int]:
        return measure_accuracy(compute_logits(network, tiny.test.images), tiny.test.labels)

    tested: list[tuple[float, int]] = []

    class Test(Callback):
        def on_epoch_end(self, training: Training, epoch: Epoch) -> None:
            tested.append(test(training.network))

    keep = Keep()
    fit(training, [History(test), keep, Test()])
    assert training.history == [
        EpochResult(epoch.number, epoch.loss, accuracy, errors, epoch.seconds)
        for epoch, (accuracy, errors) in zip(keep.epochs, tested, strict=True)
    ]
    assert [epoch.epoch for epoch in training.history] == [1, 2]


def test_seconds_of_an_epoch_are_of_training_alone(training: Training) -> None:
    clock = []

    def test(network: nn.Module) -> tuple[float, int]:
        clock.append(training.epochs_done)  # the epoch, and its seconds, are complete when the test starts
        return 0.5, 100

    fit(training, [History(test)])
    assert clock == [1, 2]


def test_bar_says_nothing_where_stderr_is_no_terminal(training: Training, capfd: pytest.CaptureFixture[str]) -> None:
    fit(training, [ProgressBar("student mlp-8")])
    assert capfd.readouterr() == ("", "")


def test_bar_on_a_terminal_names_run_and_epoch_and_shows_loss_and_accuracy(
    show: Show, capfd: pytest.CaptureFixture[str]
) -> None:
    shown = show()
    assert "student mlp-8, epoch 1/2" in shown
    assert "student mlp-8, epoch 2/2" in shown
    assert "/120" in shown
    assert "loss " in shown
    assert "accuracy " in shown
    assert capfd.readouterr() == ("", "")


def test_bar_goes_away_in_the_end(show: Show) -> None:
    *_, last, end = show().split("\r")
    assert (last.strip(), end) == ("", "")


def test_bar_of_a_run_that_goes_on_starts_where_it_was(show: Show, training: Training) -> None:
    training.run_epoch()
    shown = show()
    assert " 60/120" in shown
    assert " 0/120" not in shown


def test_bar_does_not_hide_why_a_run_could_not_begin(training: Training) -> None:
    class Fail(Callback):
        def on_fit_begin(self, training: Training) -> None:
            raise ValueError("the reason")

    with pytest.raises(ValueError, match="the reason"):
        fit(training, [Fail(), ProgressBar("student")])
