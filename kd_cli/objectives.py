"""What a training step minimises: labels alone, or labels and a distillation loss bound to its teacher.

An objective is a callable ``objective(network, batch) -> Step``. It owns the frozen teacher, so that the training loop
need not know what distillation is. (The idea of a task that owns its criterion and teacher is timm's.)
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kd_cli.data import Batch, Normalisation, Split
from kd_cli.losses import soft_target_loss
from kd_cli.networks import compute_logits

TeacherLogits = Callable[[Batch], Tensor]
"""The teacher's logits, (B, classes), for a batch of training pictures."""


@dataclass(frozen=True)
class Step:
    """One step's logits, (B, classes), and its weighted loss terms by name."""

    logits: Tensor
    terms: dict[str, Tensor]

    @property
    def loss(self) -> Tensor:
        """The scalar to minimise: the sum of the terms."""
        return torch.stack(list(self.terms.values())).sum() if len(self.terms) > 1 else next(iter(self.terms.values()))


Objective = Callable[[nn.Module, Batch], Step]


def from_labels(network: nn.Module, batch: Batch) -> Step:
    """Cross-entropy with the hard labels: how a teacher learns, and the baseline of every distillation."""
    logits = network(batch.images)
    return Step(logits, {"labels": F.cross_entropy(logits, batch.labels)})


@dataclass(frozen=True)
class Distillation:
    """``alpha * T^2 * KL(teacher_T || student_T) + (1 - alpha) * cross-entropy`` (Hinton et al. 2015).

    Temperature 1 with alpha 1 is the plain KL divergence between the two networks' outputs; alpha 0 is `from_labels`.
    """

    teacher: TeacherLogits
    temperature: float
    alpha: float

    def __call__(self, network: nn.Module, batch: Batch) -> Step:
        """One forward pass of the student, compared with the teacher's logits and with the labels."""
        logits = network(batch.images)
        terms = {}
        if self.alpha > 0:
            terms["teacher"] = self.alpha * soft_target_loss(logits, self.teacher(batch), self.temperature)
        if self.alpha < 1:
            terms["labels"] = (1 - self.alpha) * F.cross_entropy(logits, batch.labels)
        return Step(logits, terms)


def cached_teacher(network: nn.Module, split: Split, normalise: Normalisation) -> TeacherLogits:
    """Run the teacher once over all training pictures, and look its logits up by each picture's row ever after.

    Valid only while a picture always looks the same, that is, without augmentation. The row follows the picture's
    index, never its position in a batch, so shuffling cannot part the two.
    """
    logits = compute_logits(network.eval(), split.images, normalise)
    return lambda batch: logits[batch.index]


def live_teacher(network: nn.Module) -> TeacherLogits:
    """Run the teacher on every batch: what augmented pictures need, since no two epochs show the same ones."""
    network.eval()

    def logits(batch: Batch) -> Tensor:
        with torch.no_grad():
            return network(batch.images)  # type: ignore[no-any-return]

    return logits
