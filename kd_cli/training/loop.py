"""One training loop. It knows a network, batches, an objective and an optimiser; not what distillation is."""

import math
import time
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from kd_cli import device
from kd_cli.batches import batches
from kd_cli.data import Normalisation, Split
from kd_cli.networks import Network
from kd_cli.objectives import Objective
from kd_cli.optimiser import Adam, learning_rate
from kd_cli.settings import KdError, TrainingSettings

REFRESH = 50
"""Steps between two looks at the loss. A look makes a GPU wait, so it is not taken at every step."""


class Bar(Protocol):
    """What the loop tells of its progress."""

    def update(self, n: int) -> Any:
        """Move on by ``n`` steps."""

    def show(self, loss: float, accuracy: float) -> Any:
        """The means over the epoch so far."""


class Silent:
    """A bar that shows nothing."""

    def update(self, n: int) -> None:
        """Take no notice."""

    def show(self, loss: float, accuracy: float) -> None:
        """Take no notice."""


@dataclass(frozen=True)
class Epoch:
    """Mean training loss and share of pictures read right over the epoch's batches as they came; seconds it took.

    A picture without a label counts as read wrong.
    """

    number: int
    loss: float
    accuracy: float
    seconds: float


class Training:
    """A training run: everything that changes from step to step, and the method that moves it on by an epoch.

    The order of the pictures and their shifts come from a random stream of the run's own, so that nothing else that
    draws random numbers can change what is learnt.
    """

    def __init__(
        self,
        network: Network,
        objective: Objective,
        split: Split,
        normalise: Normalisation,
        settings: TrainingSettings,
    ) -> None:
        self.network, self.objective = network, objective
        self.split, self.normalise, self.settings = split, normalise, settings
        self.random = torch.Generator().manual_seed(settings.seed)
        self.epochs_done = 0
        self.macs_per_step = settings.batch_size * network.macs
        self.steps_per_epoch = -(-len(split) // settings.batch_size)
        own = objective.parameters() if isinstance(objective, nn.Module) else ()
        self.optimiser = Adam([*network.parameters(), *own])

    @property
    def total_steps(self) -> int:
        """Optimiser steps in the whole run."""
        return self.steps_per_epoch * self.settings.epochs

    @property
    def steps_done(self) -> int:
        """Optimiser steps in the epochs that are complete."""
        return self.steps_per_epoch * self.epochs_done

    def run_epoch(self, bar: Bar) -> Epoch:
        """Show every training picture to the network once.

        Raises:
            KdError: the loss became infinite or no number at all; names epoch and step.
        """
        start, settings, tally = time.perf_counter(), self.settings, _Tally()
        self.network.train()
        try:
            with device.threads_for(self.macs_per_step):
                for batch in batches(
                    self.split, settings.batch_size, self.normalise, self.random, settings.augment, settings.warp
                ):
                    step = self.objective(self.network, batch)
                    self.optimiser.clear_gradients()
                    step.backward()
                    number = self.steps_done + tally.steps
                    self.optimiser.step(learning_rate(settings.schedule, settings.lr, number, self.total_steps))
                    tally.add(step.loss, step.logits, batch.labels)
                    bar.update(1)
                    if tally.steps % REFRESH == 0:
                        tally.look()
                        bar.show(tally.loss, tally.accuracy)
            tally.look()  # waits for the device, so before the clock
        except FloatingPointError as error:
            raise KdError(
                f"the loss became {error} in epoch {self.epochs_done + 1}, step {tally.steps}: "
                "use a smaller --lr, a larger --batch-size, or less weight on the teacher"
            ) from None
        self.epochs_done += 1
        return Epoch(self.epochs_done, tally.loss, tally.accuracy, time.perf_counter() - start)

    def state_dict(self) -> dict[str, Any]:
        """All that the next epoch depends on."""
        return {
            "network": self.network.state_dict(),
            "objective": self.objective.state_dict() if isinstance(self.objective, nn.Module) else {},
            "optimiser": self.optimiser.state_dict(),
            "random": self.random.get_state(),
            "epochs_done": self.epochs_done,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from where `state_dict` was taken; the run then ends with the same weights, to the bit."""
        self.network.load_state_dict(state["network"])
        if isinstance(self.objective, nn.Module):
            self.objective.load_state_dict(state["objective"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.random.set_state(state["random"])
        self.epochs_done = state["epochs_done"]


class _Tally:
    """Loss and accuracy over an epoch's steps. They stay on the device until somebody looks."""

    def __init__(self) -> None:
        self.steps = self.seen = 0
        self._loss_sum = self._correct_sum = 0.0
        self._waiting: list[tuple[Tensor, Tensor, Tensor]] = []

    @property
    def loss(self) -> float:
        """Mean over all pictures."""
        return self._loss_sum / self.seen

    @property
    def accuracy(self) -> float:
        """Share of all pictures that were read right."""
        return self._correct_sum / self.seen

    def add(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """One more step; loss is a mean over the batch."""
        self.steps += 1
        self._waiting.append((loss.detach(), logits.detach(), labels))

    def look(self) -> None:
        """Take in the steps since the last look.

        Raises:
            FloatingPointError: a loss was not finite; says which, and leaves ``steps`` at that step.
        """
        if self._waiting:
            losses, logits, labels = zip(*self._waiting, strict=True)
            values = torch.stack(losses).tolist()
            for number, loss in enumerate(values, start=self.steps - len(values) + 1):
                if not math.isfinite(loss):
                    self.steps = number
                    raise FloatingPointError(loss)
            self._loss_sum += math.fsum(loss * len(batch) for loss, batch in zip(values, labels, strict=True))
            self._correct_sum += (torch.cat(logits).argmax(dim=1) == torch.cat(labels)).sum().item()
            self.seen += sum(map(len, labels))
            self._waiting.clear()
