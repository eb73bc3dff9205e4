"""One training loop. It knows a network, batches, an objective and an optimiser; not what distillation is."""

import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from kd_cli.config import KdError, TrainingConfig
from kd_cli.data.batches import BatchSource
from kd_cli.data.seeds import spawn_seeds
from kd_cli.training import device
from kd_cli.training.epoch_result import EpochResult
from kd_cli.training.group import GROUP_OF_ONE, Group
from kd_cli.training.objective import Objective
from kd_cli.training.precision import with_precision
from kd_cli.training.step import make_step
from kd_cli.training.tally import Progress, Tally
from kd_cli.training.updates import Updates

RANKS_APART = 2**20
"""Between the seeds of dropout of two processes: more than a run has epochs, each of which has a seed of its own."""

REFRESH = 50
"""Steps between two looks at the loss. A look makes a GPU wait, so it is not taken at every step."""


class DivergedError(KdError):
    """The loss became infinite or no number at all."""


@dataclass(frozen=True)
class Epoch:
    """An epoch's number, from 1, its means over the batches as they came, and the seconds that it took.

    ``terms`` are those of `Progress`.
    """

    number: int
    loss: float
    accuracy: float
    seconds: float
    terms: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class BestEpoch:
    """The number, from 1, of the epoch with the best accuracy so far, and a copy of the network's weights after it."""

    number: int
    weights: dict[str, Tensor]


class Callback:
    """What may be done at each point of a run. Subclasses override what they need."""

    def on_fit_begin(self, training: "Training") -> None:
        """The run starts, or goes on."""

    def on_epoch_begin(self, training: "Training") -> None:
        """An epoch starts."""

    def on_step_end(self, training: "Training") -> None:
        """A step is done. Called often: keep it short."""

    def on_progress(self, training: "Training", progress: Progress) -> None:
        """The means over the steps since the last call in this epoch; every `REFRESH` steps."""

    def on_epoch_end(self, training: "Training", epoch: Epoch) -> None:
        """An epoch is done."""

    def on_fit_end(self, training: "Training") -> None:
        """A run that this callback saw begin is over, whatever the reason."""


class Training:
    """A run's state: everything that changes from step to step, and the method that moves it on by an epoch.

    Args:
        network: pixels (B, C, H, W) -> logits (B, classes); with an attribute ``known_macs`` if it knows its cost.
        objective: what each step minimises.
        batches: the training images.
        config: how to train.
        group: the processes that train together, each with its share of ``batches``.

    Attributes:
        step_network: the network as a step computes it, e.g. with fewer bits or compiled. It has the same weights.
    """

    def __init__(
        self,
        network: nn.Module,
        objective: Objective,
        batches: BatchSource,
        config: TrainingConfig,
        group: Group = GROUP_OF_ONE,
    ) -> None:
        self.network, self.objective, self.batches, self.config, self.group = network, objective, batches, config, group
        self.epochs_done = 0
        self.step_in_epoch = 0
        self.first_loss: float | None = None
        self.history: list[EpochResult] = []
        self.best: BestEpoch | None = None
        self.stop_requested = False
        self.macs_per_step = config.batch_size * (getattr(network, "known_macs", None) or device.MACS_WORTH_SHARING)
        own = objective.parameters() if isinstance(objective, nn.Module) else ()
        self.updates = Updates(network, [*network.parameters(), *own], len(batches.split), config)
        self.step_network: nn.Module = with_precision(network, config.precision)
        if config.compile:
            from kd_cli.training.compiled import CompiledNetwork, worth_graphing  # seldom used

            graphed = worth_graphing(network, config.batch_size)
            self.step_network = CompiledNetwork(self.step_network, config.batch_size, graphed)
        self._compute_step = make_step(self.step_network, objective, group)

    @property
    def total_steps(self) -> int:
        """Steps in the whole run."""
        return self.batches.steps_per_epoch * self.config.epochs

    @property
    def steps_done(self) -> int:
        """Steps so far."""
        return self.batches.steps_per_epoch * self.epochs_done + self.step_in_epoch

    @property
    def learning_rate(self) -> float:
        """The learning rate of the latest update."""
        return self.updates.learning_rate(self.epochs_done, self.step_in_epoch - 1)

    @property
    def result(self) -> nn.Module:
        """What is tested and saved: the network, or the running average of its weights."""
        return self.network if self.updates.average is None else self.updates.average.module

    def run_epoch(self, callbacks: Sequence[Callback] = ()) -> Epoch:
        """Show every training image to the network once.

        Raises:
            DivergedError: the loss became infinite or no number at all; names epoch and step.
            KdError: the network cannot be trained with a single image, and the last batch is one.
        """
        start, config, tally = time.perf_counter(), self.config, Tally()
        self.network.train()
        with (
            device.threads_for(self.macs_per_step // self.group.size, config.threads),
            closing(self.batches.epoch()) as batches,
            torch.random.fork_rng(devices=[]),
        ):
            stream = spawn_seeds(config.seed).layers + self.epochs_done + RANKS_APART * self.group.rank
            torch.manual_seed(stream)  # of dropout and the like
            for batch in batches:
                try:
                    step = self._compute_step(batch)
                except ValueError as error:
                    if len(batch.labels) > 1 or "more than 1 value per channel" not in str(error):
                        raise
                    raise KdError(
                        "the last batch of an epoch is a single image, with which batch normalisation cannot be "
                        f"trained: use another --batch-size than {config.batch_size}"
                    ) from error
                self.updates.add(step.loss, len(batch.labels), self.epochs_done, self.step_in_epoch)
                self.step_in_epoch += 1
                tally.add(step, batch.labels)
                for callback in callbacks:
                    callback.on_step_end(self)
                if self.step_in_epoch % REFRESH == 0:
                    progress = self._look(tally)
                    for callback in callbacks:
                        callback.on_progress(self, progress)
        self._look(tally)  # waits for the device, so before the clock
        self.epochs_done += 1
        self.step_in_epoch = 0
        return Epoch(self.epochs_done, tally.loss, tally.accuracy, time.perf_counter() - start, tally.terms)

    def _look(self, tally: Tally) -> Progress:
        """The means since the last look. A run that diverged is left at the steps whose losses were numbers."""
        try:
            progress = tally.look()
        except FloatingPointError as error:
            self.step_in_epoch = tally.steps - 1
            raise DivergedError(
                f"the loss became {error} in epoch {self.epochs_done + 1}, step {tally.steps}"
            ) from error
        if self.first_loss is None:
            self.first_loss = tally.first_loss
        return progress

    def note_best(self) -> None:
        """Take the epoch that is done for the best one."""
        weights = {name: tensor.clone() for name, tensor in self.result.state_dict().items()}
        self.best = BestEpoch(self.epochs_done, weights)

    def use_best(self) -> None:
        """Go back to the weights of the best epoch, if one was noted."""
        if self.best is not None:
            self.result.load_state_dict(self.best.weights)

    def state_dict(self) -> dict[str, Any]:
        """All that the next epoch depends on."""
        return {
            "network": self.network.state_dict(),
            "objective": self.objective.state_dict() if isinstance(self.objective, nn.Module) else {},
            "updates": self.updates.state_dict(),
            "batches": self.batches.state_dict(),
            "epochs_done": self.epochs_done,
            "first_loss": self.first_loss,
            "best": None if self.best is None else vars(self.best),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from where `state_dict` was taken; the run then ends with the same weights, to the bit."""
        if state["best"] is not None:
            self.best = BestEpoch(**state["best"])
            self.use_best()  # finds out whether they fit, before the run needs them
        self.network.load_state_dict(state["network"])
        if isinstance(self.objective, nn.Module):
            self.objective.load_state_dict(state["objective"])
        self.updates.load_state_dict(state["updates"])
        self.batches.load_state_dict(state["batches"])
        self.epochs_done = state["epochs_done"]
        self.first_loss = state["first_loss"]


def fit(training: Training, callbacks: Sequence[Callback] = ()) -> None:
    """Train until all epochs are done, or a callback sets ``training.stop_requested``.

    Raises:
        DivergedError: as `Training.run_epoch`.
    """
    with ExitStack() as ending:
        for callback in callbacks:
            callback.on_fit_begin(training)
            ending.callback(callback.on_fit_end, training)
        while training.epochs_done < training.config.epochs and not training.stop_requested:
            for callback in callbacks:
                callback.on_epoch_begin(training)
            epoch = training.run_epoch(callbacks)
            for callback in callbacks:
                callback.on_epoch_end(training, epoch)
