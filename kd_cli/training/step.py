"""A training step as the loop calls it: in this process alone, or shared with others by torch's engine for that."""

import warnings
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial

from torch import Tensor, nn

from kd_cli.data.batches import Batch
from kd_cli.training.group import Group
from kd_cli.training.objective import Objective, Step

ComputeStep = Callable[[Batch], Step]


def make_step(network: nn.Module, objective: Objective, group: Group) -> ComputeStep:
    """The step that ``objective`` makes of a batch. Gradients are those of the whole batch in every process."""
    if group.size == 1:
        return partial(objective, network)
    from torch.nn.parallel import DistributedDataParallel

    from kd_cli.training.collectives import average_gradients

    # Gradients of convolutions that choose their own layout are copied.
    warnings.filterwarnings("ignore", "Grad strides do not match", UserWarning)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # newer versions have another name for `broadcast_buffers`
        # A method that reads features need not use the layers after them: DDP learns once which ones a step leaves
        # out, and to find it out anew would cost a message in each step. Buffers are equal without being sent.
        engine = DistributedDataParallel(
            _SharedStep(network, objective, group), static_graph=True, broadcast_buffers=False
        )
    average_gradients(engine)

    def compute_step(batch: Batch) -> Step:
        return Step(*engine(batch))

    return compute_step


class _SharedStep(nn.Module):
    """A step as one module, so that the network may be called by any of its layers: DDP sees the whole step."""

    def __init__(self, network: nn.Module, objective: Objective, group: Group) -> None:
        super().__init__()
        self.network, self.objective, self.group = network, objective, group

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """The fields of `Step`, as DDP finds tensors in tuples only. Gradients flow from the loss alone."""
        from kd_cli.training.batch_norm import whole_batch_statistics

        count = len(batch.labels)
        with whole_batch_statistics(self.group.parts(count)) if self.group.divides(count) else nullcontext():
            step = self.objective(self.network, batch)
        return step.logits.detach(), step.loss, {name: term.detach() for name, term in step.terms.items()}
