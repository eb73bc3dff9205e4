"""What processes exchange, by torch's process groups: gloo between CPUs, NCCL between GPUs."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

from kd_cli.config import KdError

PATIENCE = timedelta(days=7)
"""How long a process waits for one that prepares images. That one has died is noticed at once, and needs no limit."""

LOST = ("connection closed", "connection reset", "broken pipe", "gloo", "nccl")
"""What errors speak of that are raised where another process has ended."""

_control: list[Any] = []
"""The processes once more, connected for objects and long waits: tensors are never late by more than torch's limit."""


def connect(where: torch.device) -> None:
    """Find the other processes, by the environment variables that torchrun sets.

    Raises:
        KdError: this build of torch does not know how.
    """
    if not dist.is_available():
        raise KdError("this build of torch has no torch.distributed: start kd without torchrun")
    dist.init_process_group("cpu:gloo,cuda:nccl" if where.type == "cuda" else "gloo")
    _control[:] = [dist.new_group(backend="gloo", timeout=PATIENCE)]


def disconnect() -> None:
    """Leave the others in order."""
    _control.clear()
    dist.destroy_process_group()


def is_lost(error: RuntimeError) -> bool:
    """Whether an error says that another process has ended."""
    return isinstance(error, dist.DistError) or any(words in str(error).lower() for words in LOST)


def gather_objects(own: Any) -> list[Any]:
    """What each process has, in their order."""
    everywhere: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(everywhere, own, group=_control[0])
    return everywhere


def broadcast_object(own: Any) -> Any:
    """What the first process has."""
    sent = [own]
    dist.broadcast_object_list(sent, src=0, group=_control[0])
    return sent[0]


def sum_over_processes(tensor: Tensor) -> Tensor:
    """The sum of all processes' tensors, in place of this process's own one."""
    dist.all_reduce(tensor)
    return tensor


def gather(own: Tensor, slices: Sequence[slice], rank: int) -> Tensor:
    """As `Share.gather`; ``slices`` are the rows of each process."""
    gathered: Tensor = _Gather.apply(own, slices, rank)
    return gathered


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, own: Tensor, slices: Sequence[slice], rank: int) -> Tensor:
        ctx.own, ctx.size = slices[rank], len(slices)
        counts = [rows.stop - rows.start for rows in slices]
        sent = own.new_zeros(max(counts), *own.shape[1:])  # backends want equal sizes, and rows that follow each other
        sent[: len(own)] = own
        received = [torch.empty_like(sent) for _ in slices]
        dist.all_gather(received, sent)
        return torch.cat([rows[:count] for rows, count in zip(received, counts, strict=True)])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return gradient[ctx.own] * ctx.size, None, None
