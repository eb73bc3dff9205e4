"""The callbacks of a run: a progress bar, and a history with the accuracy on the test set."""

from collections.abc import Callable

from torch import nn
from tqdm import tqdm

from kd_cli.training.loop import Callback, Epoch, EpochResult, Progress, Training


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
        test: network -> (accuracy, errors) on the test set.
    """

    def __init__(self, test: Callable[[nn.Module], tuple[float, int]]) -> None:
        self.test = test

    def on_epoch_end(self, training: Training, epoch: Epoch) -> None:
        """Test the network."""
        accuracy, errors = self.test(training.network)
        training.history.append(EpochResult(epoch.number, epoch.loss, accuracy, errors, epoch.seconds))
