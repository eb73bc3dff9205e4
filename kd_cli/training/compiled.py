"""A step's network as torch.compile makes it."""

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from kd_cli.networks.export import explained

ADVICE = "leave --compile out, or install what it needs, such as a C++ compiler"

LAUNCH_BOUND_MACS = 10**9
"""Of a step forwards, below which a GPU waits for its next kernel: calculated, not measured. About 60 launches of 5 us
take 0.3 ms, in which a GPU of 20 TFLOP/s computes 10^9 multiply-accumulates forwards and twice as many backwards."""


class CompiledNetwork(nn.Module):
    """A network that is compiled at its first full batch; batches of another size are computed as before.

    Its weights are the network's, under the names that they have there.

    Args:
        network: pixels (N, C, H, W) -> logits (N, classes).
        batch_size: images in a full batch.
        graphed: whether to record the step as a CUDA graph, which is launched as one.
    """

    def __init__(self, network: nn.Module, batch_size: int, graphed: bool) -> None:
        super().__init__()
        self.network, self.batch_size, self.graphed, self.ready = network, batch_size, graphed, False
        mode = "reduce-overhead" if graphed else "default"
        self.compiled: Any = torch.compile(network, dynamic=False, mode=mode)

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits, (N, classes).

        Raises:
            KdError: the compiler fails, or is not there.
        """
        if len(pixels) != self.batch_size:
            logits: Tensor = self.network(pixels)
            return logits
        if self.graphed:
            torch.compiler.cudagraph_mark_step_begin()
        with nullcontext() if self.ready else explained("torch.compile fails", ADVICE):
            logits = self.compiled(pixels)
        self.ready = True
        # A graph writes each step's logits over the last ones, which the loop still looks at.
        return logits.clone() if self.graphed else logits


def worth_graphing(classifier: nn.Module, batch_size: int) -> bool:
    """Whether a GPU spends most of a step on launching kernels. A classifier counts its multiply-accumulates for it."""
    if next(classifier.parameters()).device.type != "cuda":
        return False
    macs = getattr(classifier, "macs", LAUNCH_BOUND_MACS)
    return isinstance(macs, int) and batch_size * macs < LAUNCH_BOUND_MACS
