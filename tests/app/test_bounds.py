"""What training runs take, and which are refused or ended."""

from typing import Any

import pytest
import torch

from kd_cli.app.bounds import MEASURED_SECONDS, TimeLimit, require_modest
from kd_cli.app.limits import MAX_EPOCHS, MAX_RUN_MINUTES
from kd_cli.commands.job import StudentConfig
from kd_cli.config import KdError, TrainingConfig
from kd_cli.data.batches import BatchSource
from kd_cli.data.dataset import Dataset
from kd_cli.networks.classifier import build_classifier
from kd_cli.networks.spec import parse_spec
from kd_cli.training.loop import Callback, Training, fit
from kd_cli.training.objective import label_objective


def student(architecture: str = "mlp-16", **training: Any) -> StudentConfig:
    return StudentConfig(parse_spec(architecture), training=TrainingConfig(**training))


@pytest.mark.parametrize("architecture", ["mlp-16", "mlp-2048-1024", "cnn-64", "cnn-1000"])
def test_a_run_within_the_bounds_is_accepted(tiny: Dataset, architecture: str) -> None:
    require_modest(student(architecture, epochs=MAX_EPOCHS), tiny.info)


@pytest.mark.parametrize(
    ("architecture", "epochs", "bound"),
    [
        ("mlp-2048-2048", 1, "up to 5,000,000"),
        ("mlp-65536-65536-65536", 1, "up to 5,000,000"),
        ("cnn-65536", 1, "up to 5,000,000"),
        ("cnn-2400", 1, "up to 1,000 MB"),  # few weights, but 400 values for each filter
        ("mlp-16", MAX_EPOCHS + 1, f"up to {MAX_EPOCHS} epochs"),
    ],
)
def test_a_run_that_would_take_too_much_is_refused(tiny: Dataset, architecture: str, epochs: int, bound: str) -> None:
    with pytest.raises(KdError, match=bound) as caught:
        require_modest(student(architecture, epochs=epochs), tiny.info)
    assert "--" not in str(caught.value)


class Clock(Callback):
    """A clock that a step moves on, and that counts the steps."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.steps = seconds, 0

    def __call__(self) -> float:
        return self.seconds * self.steps

    def on_step_end(self, training: Training) -> None:
        self.steps += 1


def train(dataset: Dataset, clock: Clock) -> None:
    """60 steps in 2 epochs."""
    config = TrainingConfig(epochs=2, batch_size=20)
    torch.manual_seed(0)
    batches = BatchSource(dataset.train, config.batch_size, config.seed, config.augment)
    network = build_classifier(parse_spec("mlp-8"), dataset.info)
    fit(Training(network, label_objective, batches, config), [clock, TimeLimit(clock)])


SLOWEST = MAX_RUN_MINUTES * 60 / 60
"""Seconds of a step in the longest run that is not ended."""


def test_a_run_that_would_take_too_long_is_ended_after_its_first_steps(tiny: Dataset) -> None:
    clock = Clock(1.2 * SLOWEST)
    with pytest.raises(KdError, match=f"would take about 18 min.* up to {MAX_RUN_MINUTES} min"):
        train(tiny, clock)
    assert clock.steps == 1


@pytest.mark.parametrize("seconds", [0.9 * SLOWEST, MEASURED_SECONDS / 1000])
def test_a_run_that_is_quick_enough_goes_on_to_its_end(tiny: Dataset, seconds: float) -> None:
    clock = Clock(seconds)
    train(tiny, clock)
    assert clock.steps == 60
