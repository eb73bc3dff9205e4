"""What processes exchange, by torch's process groups: gloo between CPUs, NCCL between GPUs."""

import contextlib
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.distributed import TCPStore  # type: ignore[attr-defined]
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel

from kd_cli.config import KdError
from kd_cli.training.launch import Launch
from kd_cli.training.shared_memory import SLOT_BYTES, SharedMemory, share_memory

PATIENCE = timedelta(days=7)
"""How long a process waits for one that prepares images. That one has died is noticed at once, and needs no limit."""

CONNECTING = timedelta(seconds=2)
"""How long to try to reach a process that may be gone."""

LOST = ("connection closed", "connection reset", "broken pipe", "gloo", "nccl")
"""What errors speak of that are raised where another process has ended."""

LARGEST_SHOWN = 8 * SLOT_BYTES
"""Gradients that are larger are averaged by gloo: of those that are shown each process reads all."""

_control: list[Any] = []
"""The processes once more, connected for objects and long waits: tensors are never late by more than torch's limit."""

_memory: list[SharedMemory] = []
"""What the processes share, if they are on one machine."""


def connect(launch: Launch, where: torch.device) -> int:
    """Find the other processes, by the environment variables that torchrun sets.

    Returns:
        How often the processes were started again.

    Raises:
        KdError: this build of torch does not know how.
    """
    if not dist.is_available():
        raise KdError("this build of torch has no torch.distributed: start kd without torchrun")
    store, restarts = _open_store(launch)
    backend = "cpu:gloo,cuda:nccl" if where.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=launch.rank, world_size=launch.size)
    _control[:] = [dist.new_group(backend="gloo", timeout=PATIENCE)]
    if where.type == "cpu" and (memory := share_memory(launch.rank, gather_objects)):
        _memory[:] = [memory]
    return int(broadcast_object(restarts))


def _open_store(launch: Launch) -> tuple[TCPStore, int]:
    """Where the processes learn each other's addresses; and, for the first one, how often they were started again.

    torchrun's own store outlives a restart, and would give the processes addresses of those that are gone: gloo then
    waits for half an hour. So the first process opens a store of its own, and torchrun's says which. One that is gone,
    too, cannot be connected to.
    """
    address, port = launch.address
    if not launch.has_store:
        return TCPStore(address, port, launch.size, launch.is_first, dist.default_pg_timeout), launch.restarts
    known = TCPStore(address, port, is_master=False)
    if launch.is_first:
        own = TCPStore(address, 0, is_master=True, wait_for_workers=False)
        known.set("kd/port", str(own.port))
        return own, known.add("kd/starts", 1) - 1
    while True:
        own_port = int(known.get("kd/port"))
        with contextlib.suppress(RuntimeError):
            own = TCPStore(address, own_port, is_master=False, timeout=CONNECTING, wait_for_workers=False)
            own.set_timeout(dist.default_pg_timeout)
            return own, 0


def disconnect() -> None:
    """Leave the others in order."""
    while _memory:
        _memory.pop().close()
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


def exchange(own: Tensor) -> Tensor:
    """The tensors of all processes, (size, ...), in their order; all have the same shape.

    Between CPUs each process sends to each other one, unless they share memory: gloo's own collective works in threads
    of its own, which have to be woken.
    """
    if _memory and own.nbytes <= SLOT_BYTES:
        return _memory[0].exchange(own)
    size, rank = dist.get_world_size(), dist.get_rank()
    everything = own.new_empty(size, *own.shape)
    if own.device.type != "cpu":
        dist.all_gather([*everything], own)
        return everything
    others = [other for other in range(size) if other != rank]
    works = [dist.isend(own, other) for other in others] + [dist.irecv(everything[other], other) for other in others]
    everything[rank] = own
    for work in works:
        if work is not None:  # as it would be for a process that is not in the group
            work.wait()
    return everything


def average_gradients(shared: DistributedDataParallel) -> None:
    """Let DDP exchange gradients as all else is exchanged, where processes share memory and there are few."""
    if _memory:
        shared.register_comm_hook(None, _average)


def _average(_: None, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:  # type: ignore[name-defined]
    own = bucket.buffer()
    if own.nbytes > LARGEST_SHOWN:
        return allreduce_hook(None, bucket)  # type: ignore[arg-type]  # all processes
    averaged: torch.futures.Future[Tensor] = torch.futures.Future()
    pieces = own.split(SLOT_BYTES // own.element_size())
    averaged.set_result(torch.cat([exchange(piece).mean(dim=0) for piece in pieces]))
    return averaged


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
        return torch.cat([rows[:count] for rows, count in zip(exchange(sent), counts, strict=True)])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return gradient[ctx.own] * ctx.size, None, None
