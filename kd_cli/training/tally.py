"""Loss and accuracy over the steps of an epoch."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from kd_cli.training.objective import Step


@dataclass(frozen=True)
class Progress:
    """Means over some steps: training loss, and share of correct predictions (never for an unlabelled image).

    ``terms`` are the weighted terms that the loss is the sum of, by name.
    """

    loss: float
    accuracy: float
    terms: dict[str, float] = field(default_factory=dict)


class Tally:
    """Loss and accuracy over an epoch's steps. They stay on the device until somebody looks."""

    def __init__(self) -> None:
        self.steps = self.seen = 0
        self.first_loss: float | None = None
        self._loss_sum = self._correct_sum = 0.0
        self._term_sums: dict[str, float] = {}
        self._waiting: list[tuple[Step, Tensor]] = []

    @property
    def loss(self) -> float:
        """Mean over all images."""
        return self._loss_sum / self.seen

    @property
    def accuracy(self) -> float:
        """Share of all images that were classified correctly."""
        return self._correct_sum / self.seen

    @property
    def terms(self) -> dict[str, float]:
        """Means of the loss's terms over all images."""
        return {name: total / self.seen for name, total in self._term_sums.items()}

    def add(self, step: Step, labels: Tensor) -> None:
        """One more step; its loss and its terms are means over the batch."""
        self.steps += 1
        terms = {name: term.detach() for name, term in step.terms.items()}
        self._waiting.append((Step(step.logits.detach(), step.loss.detach(), terms), labels))

    def look(self) -> Progress:
        """Take in the steps since the last look, and return their means.

        Raises:
            FloatingPointError: a loss was not finite; says which, and leaves ``steps`` at that step.
        """
        if not self._waiting:
            return Progress(math.nan, math.nan)
        steps, labels = zip(*self._waiting, strict=True)
        values = torch.stack([step.loss for step in steps]).tolist()
        for number, loss in enumerate(values, start=self.steps - len(values) + 1):
            if not math.isfinite(loss):
                self.steps = number
                raise FloatingPointError(loss)
        if self.first_loss is None:
            self.first_loss = values[0]
        sizes = list(map(len, labels))
        loss_sum, seen = _weigh(values, sizes), sum(sizes)
        terms = {
            name: _weigh(torch.stack([step.terms[name] for step in steps]).tolist(), sizes) for name in steps[0].terms
        }
        correct = (torch.cat([step.logits for step in steps]).argmax(dim=1) == torch.cat(labels)).sum().item()
        self._loss_sum += loss_sum
        self._correct_sum += correct
        self.seen += seen
        for name, total in terms.items():
            self._term_sums[name] = self._term_sums.get(name, 0.0) + total
        self._waiting.clear()
        return Progress(loss_sum / seen, correct / seen, {name: total / seen for name, total in terms.items()})


def _weigh(means: Sequence[float], sizes: Sequence[int]) -> float:
    """The sum over all images of what is a mean over each batch."""
    return math.fsum(mean * size for mean, size in zip(means, sizes, strict=True))
