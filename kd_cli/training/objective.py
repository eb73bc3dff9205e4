"""What a training step minimises, as the loop sees it."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from kd_cli.data.batches import Batch


@dataclass(frozen=True)
class Step:
    """A step's logits, (B, classes), the scalar to minimise, and the weighted terms that it is the sum of, by name."""

    logits: Tensor
    loss: Tensor
    terms: dict[str, Tensor]


Objective = Callable[[nn.Module, Batch], Step]
"""(network, batch) -> step. One that is a module has layers of its own, which learn together with the network.

What the network gives for the batch's images is passed through `Batch.gather`, so that the loss is that of the whole
batch where several processes share it.
"""


def label_objective(network: nn.Module, batch: Batch, label_smoothing: float = 0.0) -> Step:
    """Cross-entropy with the hard labels: how a teacher learns, and the baseline of every distillation.

    Args:
        network: what learns.
        batch: what it learns from.
        label_smoothing: share of each label that is spread over all classes (Szegedy et al. 2016, section 7).
    """
    logits = batch.gather(network(batch.images))
    loss = F.cross_entropy(logits, batch.labels, label_smoothing=label_smoothing)
    return Step(logits, loss, {"labels": loss})
