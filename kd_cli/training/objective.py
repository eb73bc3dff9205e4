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


def label_objective(network: nn.Module, batch: Batch) -> Step:
    """Cross-entropy with the hard labels: how a teacher learns, and the baseline of every distillation."""
    logits = batch.gather(network(batch.images))
    loss = F.cross_entropy(logits, batch.labels)
    return Step(logits, loss, {"labels": loss})
