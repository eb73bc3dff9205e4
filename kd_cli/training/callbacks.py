"""The callbacks of a run: a progress bar, what its epochs came to, the choice of the best one, and a notice."""

import logging
import time
from collections.abc import Callable

from torch import nn
from tqdm import tqdm

from kd_cli.training.epoch_result import EpochResult
from kd_cli.training.loop import Callback, Epoch, Training
from kd_cli.training.tally import Progress

log = logging.getLogger(__name__)


class ProgressBar(Callback):
    """A bar on stderr, where that is a terminal, with the loss and accuracy of the latest steps.

    Args:
        title: what is trained.
    """

    def __init__(self, title: str) -> None:
        self.title = title

    def on_fit_begin(self, training: Training) -> None:
        """Show the bar."""
        done, total = training.steps_done, training.total_steps
        self.bar = tqdm(total=total, initial=done, unit="step", disable=None, leave=False)

    def on_epoch_begin(self, training: Training) -> None:
        """Name the epoch."""
        self.bar.set_description(f"{self.title}, epoch {training.epochs_done + 1}/{training.config.epochs}")

    def on_step_end(self, training: Training) -> None:
        """Move on by a step."""
        self.bar.update()

    def on_progress(self, training: Training, progress: Progress) -> None:
        """Show the latest means."""
        self.bar.set_postfix_str(f"loss {progress.loss:.4f}, accuracy {progress.accuracy:.2%}")

    def on_fit_end(self, training: Training) -> None:
        """Take the bar away."""
        self.bar.close()


class History(Callback):
    """Tests the network after each epoch, and writes down in ``training.history`` what the epoch came to.

    It comes first among a run's callbacks, so that the others can read it.

    Args:
        test: network -> (accuracy, errors) on the validation images, or on the test set where there are none.
    """

    def __init__(self, test: Callable[[nn.Module], tuple[float, int]]) -> None:
        self.test = test

    def on_epoch_end(self, training: Training, epoch: Epoch) -> None:
        """Test the network."""
        accuracy, errors = self.test(training.result)
        training.history.append(EpochResult(epoch.number, epoch.loss, accuracy, errors, epoch.seconds))


class KeepEpochs(Callback):
    """Writes down what each epoch came to on the training images, in ``epochs``."""

    def __init__(self) -> None:
        self.epochs: list[Epoch] = []

    def on_epoch_end(self, training: Training, epoch: Epoch) -> None:
        """One more."""
        self.epochs.append(epoch)


class ChooseEpoch(Callback):
    """Notes the epoch with the best accuracy, the first of equals, and stops a run that no longer becomes better.

    It comes after `History`, which must look at validation images, and before what keeps the run's state.

    Args:
        patience: epochs in a row without a better one, after which to stop; None: never.
    """

    def __init__(self, patience: int | None) -> None:
        self.patience = patience

    def on_fit_begin(self, training: Training) -> None:
        """Stop a run that goes on from where it was stopped."""
        self._stop_if_done(training)

    def on_epoch_end(self, training: Training, epoch: Epoch) -> None:
        """Compare the epoch with the best one so far."""
        accuracies = [each.accuracy for each in training.history]
        if training.best is None or accuracies[-1] > accuracies[training.best.number - 1]:
            training.note_best()
        self._stop_if_done(training)

    def _stop_if_done(self, training: Training) -> None:
        if self.patience and training.best and training.epochs_done - training.best.number >= self.patience:
            training.stop_requested = True


class CompileTime(Callback):
    """Says after the first epoch how long the first step took, and how long the others did."""

    def __init__(self) -> None:
        self.start = 0.0
        self.first_step: float | None = None
        self.said = False

    def on_epoch_begin(self, training: Training) -> None:
        """Start the clock."""
        self.start = time.perf_counter()

    def on_step_end(self, training: Training) -> None:
        """Note the first step, in which everything is compiled."""
        if self.first_step is None:
            self.first_step = time.perf_counter() - self.start

    def on_epoch_end(self, training: Training, epoch: Epoch) -> None:
        """Say it once."""
        others = training.batches.steps_per_epoch - 1
        if self.first_step is None or self.said or not others:
            return
        self.said = True
        each = max(0.0, epoch.seconds - self.first_step) / others
        log.info("--compile: the first step took %.1f s, each one after it %.2f ms", self.first_step, 1000 * each)
