"""The callbacks of a run: a history of its epochs, and a progress bar."""

import dataclasses
import io
import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from kd_cli.config import Schedule, TrainingConfig
from kd_cli.data.batches import BatchSource
from kd_cli.data.dataset import Dataset
from kd_cli.evaluation.quality import measure_accuracy
from kd_cli.networks.classifier import build_classifier, compute_logits
from kd_cli.networks.spec import parse_spec
from kd_cli.training.callbacks import ChooseEpoch, History, KeepEpochs, ProgressBar
from kd_cli.training.epoch_result import EpochResult
from kd_cli.training.loop import Callback, Epoch, Training, fit
from kd_cli.training.objective import label_objective


@pytest.fixture
def training(tiny: Dataset) -> Training:
    """Two epochs of 60 steps."""
    return start(tiny, epochs=2)


def start(tiny: Dataset, epochs: int) -> Training:
    torch.manual_seed(0)
    network = build_classifier(parse_spec("mlp-8"), tiny.info)
    config = TrainingConfig(epochs, batch_size=10, schedule=Schedule.constant)
    return Training(network, label_objective, BatchSource(tiny.train, 10, seed=0), config)


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


def test_history_has_what_the_loop_says_of_each_epoch_and_a_test_after_it(training: Training, tiny: Dataset) -> None:
    def test(network: nn.Module) -> tuple[float, int]:
        return measure_accuracy(compute_logits(network, tiny.test.images), tiny.test.labels)

    tested: list[tuple[float, int]] = []

    class Test(Callback):
        def on_epoch_end(self, training: Training, epoch: Epoch) -> None:
            tested.append(test(training.network))

    keep = KeepEpochs()
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


def run(training: Training, accuracies: list[float], patience: int | None) -> list[dict[str, Tensor]]:
    """Train with tests that come to these accuracies; the weights after each epoch."""
    weights: list[dict[str, Tensor]] = []

    def test(network: nn.Module) -> tuple[float, int]:
        weights.append({name: tensor.clone() for name, tensor in network.state_dict().items()})
        return accuracies[training.epochs_done - 1], 0

    fit(training, [History(test), ChooseEpoch(patience)])
    return weights


@pytest.mark.parametrize(
    ("accuracies", "patience", "best", "epochs"),
    [
        ([0.1, 0.3, 0.2, 0.2, 0.2], 2, 2, 4),
        ([0.1, 0.3, 0.2, 0.4, 0.3], 2, 4, 5),
        ([0.3, 0.3, 0.3, 0.3, 0.3], 3, 1, 4),
        ([0.3, 0.2, 0.4, 0.4, 0.4], 1, 1, 2),
        ([0.1, 0.4, 0.2, 0.2, 0.3], None, 2, 5),
    ],
)
def test_the_best_epoch_is_kept_and_a_run_that_no_longer_improves_is_stopped(
    tiny: Dataset, accuracies: list[float], patience: int | None, best: int, epochs: int
) -> None:
    training = start(tiny, epochs=5)
    weights = run(training, accuracies, patience)
    assert training.best is not None
    assert (training.best.number, len(weights)) == (best, epochs)
    training.use_best()
    for name, tensor in training.network.state_dict().items():
        assert torch.equal(tensor, weights[best - 1][name])


def test_a_run_goes_on_waiting_where_it_was_interrupted(tiny: Dataset) -> None:
    accuracies = [0.1, 0.3, 0.2, 0.2, 0.2]
    unbroken, broken, resumed = (start(tiny, epochs=5) for _ in range(3))
    run(unbroken, accuracies, patience=2)
    broken.config = dataclasses.replace(broken.config, epochs=3)
    run(broken, accuracies, patience=2)
    resumed.load_state_dict(broken.state_dict())
    resumed.history[:] = broken.history
    run(resumed, accuracies, patience=2)
    assert resumed.best is not None
    assert unbroken.best is not None
    assert (resumed.best.number, resumed.epochs_done) == (unbroken.best.number, unbroken.epochs_done) == (2, 4)
    assert all(
        torch.equal(*pair) for pair in zip(resumed.best.weights.values(), unbroken.best.weights.values(), strict=True)
    )


def test_a_run_that_was_stopped_stays_so(tiny: Dataset) -> None:
    stopped, again = (start(tiny, epochs=5) for _ in range(2))
    run(stopped, [0.3, 0.2, 0.2, 0.2, 0.2], patience=1)
    again.load_state_dict(stopped.state_dict())
    again.history[:] = stopped.history
    run(again, [1.0] * 5, patience=1)
    assert again.epochs_done == 2
