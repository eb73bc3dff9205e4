"""What a training run tells while it goes on, and the bar on the terminal that shows it."""

from typing import Any, Protocol

from tqdm import tqdm

from kd_cli.journal import Entry
from kd_cli.train import Bar


class Watch(Bar, Protocol):
    """Follows a training run, and may end it early."""

    def begin(self, steps: int, done: int) -> Any:
        """The run starts; it has ``steps`` in all, of which an earlier part of it has ``done`` some."""

    def begin_epoch(self, title: str) -> Any:
        """An epoch starts."""

    def end_epoch(self, entry: Entry) -> bool:
        """An epoch is over; whether to go on. A run that ends here is saved as it is."""

    def close(self) -> Any:
        """The run is over, whatever the reason."""


class Terminal:
    """A progress bar, where there is a terminal."""

    def begin(self, steps: int, done: int) -> None:
        """Show the bar."""
        self.bar = tqdm(total=steps, initial=done, unit="step", disable=None, leave=False)

    def begin_epoch(self, title: str) -> None:
        """Name the epoch beside the bar."""
        self.bar.set_description(title)

    def update(self, n: int) -> None:
        """Move on by ``n`` steps."""
        self.bar.update(n)

    def show(self, loss: float, accuracy: float) -> None:
        """The means over the epoch so far, beside the bar."""
        self.bar.set_postfix_str(f"loss {loss:.4f}, accuracy {accuracy:.2%}")

    def end_epoch(self, entry: Entry) -> bool:
        """Go on."""
        return True

    def close(self) -> None:
        """Take the bar away."""
        self.bar.close()
