"""A run as TensorBoard shows it. The library is an extra and slow to import, so that only what writes imports it."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from kd_cli.config import KdError
from kd_cli.files import require_writable
from kd_cli.training.loop import Callback, Epoch, Training
from kd_cli.training.tally import Progress


def require_ready(folder: Path | None) -> None:
    """Find out before the work that nothing could be written, if that was asked for.

    Raises:
        KdError: TensorBoard is missing, or the folder cannot be written.
    """
    if folder is None:
        return
    if find_spec("tensorboard") is None:
        raise KdError("--tensorboard needs TensorBoard: pip install 'kd-cli[tensorboard]'")
    require_writable(folder / "probe")


class TensorBoard(Callback):
    """Writes loss, accuracy, learning rate and the terms of the objective; and at the end, configuration and metrics.

    It comes after `History`. A folder that has a run in it already is left as it is: the next free name is taken.

    Args:
        folder: where the run is to be, e.g. ``DIR/NAME``.
        options: the configuration, by name.
        tested_on: which images the accuracies of ``training.history`` are of.
    """

    def __init__(self, folder: Path, options: Mapping[str, Any], tested_on: str) -> None:
        self.folder, self.options, self.tested_on = folder, options, tested_on

    def on_fit_begin(self, training: Training) -> None:
        """Open the folder."""
        from torch.utils.tensorboard import SummaryWriter

        folder, number = self.folder, 1
        while folder.exists():
            number += 1
            folder = self.folder.with_name(f"{self.folder.name}-{number}")
        self.writer = SummaryWriter(str(folder))

    def on_progress(self, training: Training, progress: Progress) -> None:
        """The latest steps."""
        self._write("steps", training, {"loss": progress.loss, "training accuracy": progress.accuracy}, progress.terms)

    def on_epoch_end(self, training: Training, epoch: Epoch) -> None:
        """The epoch, and the accuracy after it."""
        measures = {"loss": epoch.loss, "training accuracy": epoch.accuracy}
        measures[f"{self.tested_on} accuracy"] = training.history[-1].accuracy
        self._write("epochs", training, measures, epoch.terms)

    def on_fit_end(self, training: Training) -> None:
        """The configuration and what it came to, for TensorBoard's table of them."""
        if training.history:
            last = training.history[-1]
            options = {
                name: each if isinstance(each, int | float | str) else str(each) for name, each in self._options()
            }
            metrics = {f"final/{self.tested_on} accuracy": last.accuracy, "final/loss": last.loss}
            self.writer.add_hparams(options, metrics, run_name=".")
        self.writer.close()

    def _options(self) -> list[tuple[str, Any]]:
        return [(name, each) for name, each in self.options.items() if each is not None]

    def _write(self, group: str, training: Training, measures: Mapping[str, float], terms: Mapping[str, float]) -> None:
        step = training.steps_done
        shown = {
            **measures,
            "learning rate": training.learning_rate,
            **{f"term {name}": each for name, each in terms.items()},
        }
        for name, value in shown.items():
            self.writer.add_scalar(f"{group}/{name}", value, step)
