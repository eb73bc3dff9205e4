"""One training loop. It knows a network, batches, an objective and an optimiser; not what distillation is."""

import math
import time
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LRScheduler, OneCycleLR

from kd_cli.data import Normalisation, Split, batches
from kd_cli.networks import Network
from kd_cli.objectives import Objective
from kd_cli.settings import KdError, Schedule, TrainingSettings

REFRESH = 50
"""Steps between two looks at the loss. A look makes a GPU wait, so it is not taken at every step."""


ONE_CYCLE_PEAK = 4.0
"""How far the one-cycle schedule rises above the learning rate that it starts from."""


class Bar(Protocol):
    """As much of tqdm as the loop uses."""

    def update(self, n: int) -> Any:
        """Move on by ``n`` steps."""

    def set_postfix_str(self, s: str) -> Any:
        """Show ``s`` beside the bar."""


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
        self.steps_per_epoch = -(-len(split) // settings.batch_size)
        # One kernel for all parameters; MPS gained it later than our oldest torch.
        fused = split.images.device.type in ("cpu", "cuda")
        own = objective.parameters() if isinstance(objective, nn.Module) else ()
        self.optimiser = torch.optim.Adam([*network.parameters(), *own], lr=settings.lr, fused=fused)
        self.schedule = _schedule(self.optimiser, settings, self.total_steps)

    @property
    def total_steps(self) -> int:
        """Optimiser steps in the whole run."""
        return self.steps_per_epoch * self.settings.epochs

    def run_epoch(self, bar: Bar) -> Epoch:
        """Show every training picture to the network once.

        Raises:
            KdError: the loss grew beyond all bounds.
        """
        start = time.perf_counter()
        device = self.split.images.device
        loss_sum, correct = torch.zeros((), device=device), torch.zeros((), device=device)
        seen = 0
        self.network.train()
        epoch = batches(self.split, self.settings.batch_size, self.normalise, self.random, self.settings.augment)
        for number, batch in enumerate(epoch, start=1):
            step = self.objective(self.network, batch)
            loss = step.loss
            self.optimiser.zero_grad()
            loss.backward()
            self.optimiser.step()
            self.schedule.step()
            loss_sum += loss.detach() * len(batch.labels)
            correct += _count_correct(step.logits, batch.labels)
            seen += len(batch.labels)
            bar.update(1)
            if number % REFRESH == 0:
                bar.set_postfix_str(f"loss {loss_sum.item() / seen:.4f}, accuracy {correct.item() / seen:.2%}")
        mean_loss, accuracy = loss_sum.item() / seen, correct.item() / seen  # waits for the device, so before the clock
        self.epochs_done += 1
        if not math.isfinite(mean_loss):
            raise KdError(f"the loss is no number any more in epoch {self.epochs_done}: use a smaller --lr or --weight")
        return Epoch(self.epochs_done, mean_loss, accuracy, time.perf_counter() - start)


def _schedule(optimiser: torch.optim.Optimizer, settings: TrainingSettings, steps: int) -> LRScheduler:
    if settings.schedule is Schedule.cosine:
        return CosineAnnealingLR(optimiser, T_max=steps)
    if settings.schedule is Schedule.one_cycle:
        return OneCycleLR(
            optimiser,
            max_lr=ONE_CYCLE_PEAK * settings.lr,
            div_factor=ONE_CYCLE_PEAK,
            total_steps=steps + 1,  # torch counts the step at construction
            cycle_momentum=False,
        )
    return LambdaLR(optimiser, lambda _: 1.0)


def _count_correct(logits: Tensor, labels: Tensor) -> Tensor:
    return (logits.detach().argmax(dim=1) == labels).sum()
