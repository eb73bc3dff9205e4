"""Networks as what runs them takes them: PyTorch, PyTorch's compiler, ONNX Runtime."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kd_cli.config import FORWARD_CHUNK
from kd_cli.data.dataset import to_pixels
from kd_cli.networks.checkpoint import Checkpoint
from kd_cli.networks.onnx_file import OnnxNetwork

MANY_GRAPHS = 1000
"""More than a command compiles: some for each network, one for each number of threads and kind of batch."""


@dataclass(frozen=True)
class Runnable:
    """A network that is ready to run: ``forward(as_input(images))`` gives logits for uint8 images, (N, C, H, W).

    The two are apart so that ``forward`` can be measured alone.
    """

    forward: Callable[[Any], Any]
    as_input: Callable[[Tensor], Any]

    def compute_logits(self, images: Tensor) -> Tensor:
        """Logits, (N, classes), in bounded memory."""
        return torch.cat([torch.as_tensor(self.forward(self.as_input(chunk))) for chunk in images.split(FORWARD_CHUNK)])


def make_runnable(network: Checkpoint | OnnxNetwork, threads: int | None = None) -> Runnable:
    """A network as it is; an exported one with so many threads, a checkpoint's with those that PyTorch has."""
    if isinstance(network, Checkpoint):
        return Runnable(network.classifier, to_pixels)
    exported = network if threads is None else network.with_threads(threads)
    return Runnable(exported, lambda images: to_pixels(images).cpu().numpy())


def make_compiled(checkpoint: Checkpoint) -> Runnable:
    """A checkpoint's network, compiled by `torch.compile` when it first runs, and anew for images of another number."""
    return Runnable(torch.compile(checkpoint.classifier), to_pixels)


@contextmanager
def many_compiled() -> Iterator[None]:
    """Let any number of networks be compiled: beyond a few, PyTorch would run them as they are and not say so."""
    from torch import _dynamo  # slow to import

    with _dynamo.config.patch(recompile_limit=MANY_GRAPHS):
        yield
