"""The processes that train one network together: what they do in turns, and what they tell each other."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from kd_cli.config import DeviceName, KdError
from kd_cli.data.shares import Share
from kd_cli.training import device
from kd_cli.training.launch import Launch, current_launch

Made = TypeVar("Made")

GRAPH_CHANGED = "training graph has changed"
"""What torch's DDP says of a step that leaves out other parameters than the first one did."""


@dataclass(frozen=True)
class Group(Share):
    """All processes of a run, as one of them sees it. For a process alone, nothing of this does anything.

    Every process calls the same methods in the same order, or all of them wait for the one that does not.

    Attributes:
        local_rank: this process's number among those of its machine.
        restarts: how often all processes were started again.
    """

    local_rank: int = 0
    restarts: int = 0

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0

    def gather(self, own: Tensor, count: int) -> Tensor:
        """As `Share.gather`."""
        if not self.divides(count):
            return own
        from kd_cli.training import collectives

        return collectives.gather(own, self._slices(count), self.rank)

    def from_first(self, make: Callable[[], Made]) -> Made:
        """What the first process makes, in every process; tensors must be on the CPU."""
        if self.size == 1:
            return make()
        from kd_cli.training import collectives

        made: Made = collectives.broadcast_object(make() if self.is_first else None)
        return made

    @contextmanager
    def first_of_machine_first(self) -> Iterator[None]:
        """Let one process of each machine do something before the others do it, who then find what it left."""
        if self.size > 1 and self.local_rank > 0:
            self._wait()
        yield
        if self.size > 1 and self.local_rank == 0:
            self._wait()

    def require_same(self, values: dict[str, Any], advice: str) -> None:
        """Find out before they go astray that the processes differ in something.

        Args:
            values: plain values, by name.
            advice: what to do where they differ.

        Raises:
            KdError: they do; says in what.
        """
        if self.size == 1:
            return
        from kd_cli.training import collectives

        everywhere = collectives.gather_objects(values)
        for name in values:
            found = list(dict.fromkeys(str(each.get(name)) for each in everywhere))
            if len(found) > 1:
                raise KdError(f"the {self.size} processes differ in {name} ({found[0]} and {found[1]}): {advice}")

    def _wait(self) -> None:
        from kd_cli.training import collectives

        collectives.gather_objects(None)


GROUP_OF_ONE = Group()


@contextmanager
def join(name: DeviceName) -> Iterator[Group]:
    """The group of the processes that torchrun started, while they last; or this process alone.

    Args:
        name: where they compute: each process has a GPU of its own, or all share the CPUs.

    Raises:
        KdError: the device does not do for several processes; the network's steps differ; or one of the other processes
            has ended.
    """
    launch = current_launch()
    if launch.size == 1:
        yield Group(restarts=launch.restarts)
        return
    where = _select_for_one(launch, name)
    from kd_cli.training import collectives

    try:
        restarts = collectives.connect(launch, where)
        yield Group(launch.rank, launch.size, launch.local_rank, restarts)
        collectives.disconnect()
    except RuntimeError as error:
        if GRAPH_CHANGED in str(error):
            raise KdError(
                "the network does not use the same layers in every step, which several processes cannot train: start "
                "kd without torchrun"
            ) from error
        if not collectives.is_lost(error):
            raise
        raise KdError(f"a process of the run has ended; {_how_to_go_on(launch)}") from error


def _select_for_one(launch: Launch, name: DeviceName) -> torch.device:
    where = device.select(name)
    if where.type == "mps":
        raise KdError("several processes compute on CPUs, or on CUDA's GPUs: use --device cpu")
    if where.type == "cuda":
        gpus = torch.cuda.device_count()
        if launch.local_rank >= gpus:
            raise KdError(f"this machine has {gpus} GPUs: use --nproc-per-node {gpus}, or --device cpu")
        torch.cuda.set_device(launch.local_rank)
    return where


def _how_to_go_on(launch: Launch) -> str:
    if launch.restarts_left > 0:
        return "torchrun starts all of them again, after the last whole epoch"
    return "repeat the command with --resume to go on after the last whole epoch"
