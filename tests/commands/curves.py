"""Trials that train nothing: their accuracies follow from the setting, so that the best one is known."""

import math
from collections.abc import Callable
from typing import Any

import pytest

from kd_cli.commands import trials
from kd_cli.distillation.methods import METHODS, Method, Range
from kd_cli.training.epoch_result import EpochResult
from kd_cli.training.loop import Epoch, Training

BEST_LR = 0.004
"""The learning rate that the trials are best with, whatever the method."""


def plant(patch: pytest.MonkeyPatch, weight: float, luck: Callable[[Training], float] = lambda training: 0.0) -> None:
    """A method "planted", whose best weight is this one; and trials that take no time.

    ``luck`` is what a trial's accuracy gains by chance.
    """
    row = METHODS["kl"]
    planted = Method(row.short, "", "", row.reads, 1, row.loss, {"weight": 1.0}, {"weight": Range(0.001, 10)})
    patch.setitem(METHODS, "planted", planted)

    def fit(training: Training, callbacks: Any) -> None:
        own = getattr(training.objective, "weights", (weight,))[0]
        away = math.log(own / weight) ** 2 + math.log(training.config.lr / BEST_LR) ** 2
        for epoch in range(1, training.config.epochs + 1):
            accuracy = 1 - 0.02 * (1 + away) * (1 + 2 / epoch) + luck(training)
            training.history.append(EpochResult(epoch, 1.0, min(1.0, max(0.1, accuracy)), 0, 0.5))
            for callback in callbacks[1:]:
                callback.on_epoch_end(training, Epoch(epoch, 1.0, accuracy, 0.5))
            if training.stop_requested:
                break

    patch.setattr(trials, "fit", fit)
