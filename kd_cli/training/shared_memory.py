"""Small tensors that the processes of one machine show each other, in memory that they share.

A process that sleeps until a message comes has to be woken, and batch normalisation waits twice in each layer. On a
virtual machine waking takes longer than what a small network computes in between. So a process that waits here stays
awake.
"""

import os
import platform
import select
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

SLOT_BYTES = 2**20
"""The largest tensor that is shown; larger ones are sent as messages."""

LINE_BYTES = 64
"""A processor's cache line: counters in lines of their own do not disturb each other."""

LOOKS = 1_000
"""How often a process looks for a counter before it finds out whether the others are still there."""

FOLDER = Path("/dev/shm")
"""Where Linux keeps files in memory."""

USABLE = FOLDER.is_dir() and hasattr(os, "pidfd_open") and platform.machine() == "x86_64"
"""Whether the system has what is needed here. Other processors than x86 may change the order of what is written."""


class SharedMemory:
    """Memory that all processes of a group have mapped.

    Each process has two slots in turns, and a counter of what it has shown. Nobody shows a third tensor before all
    have shown the second one, and so have read the first.

    Args:
        path: a file of `size_for` bytes, all 0.
        rank: this process's number, from 0.
        processes: the process numbers of all, by rank.
    """

    def __init__(self, path: Path, rank: int, processes: Sequence[int]) -> None:
        self.rank, self.shown, size = rank, 0, len(processes)
        memory = np.memmap(path, np.uint8, "r+")
        self._counters = memory[: size * LINE_BYTES].view(np.int64).reshape(size, -1)[:, 0]
        self._slots = torch.from_numpy(memory[size * LINE_BYTES :]).view(2, size, SLOT_BYTES)
        self._others = {
            other: os.pidfd_open(number)  # type: ignore[attr-defined,unused-ignore]  # Linux has it
            for other, number in enumerate(processes)
            if other != rank
        }

    def exchange(self, own: Tensor) -> Tensor:
        """The tensors of all processes, (size, ...), in their order; all have the same shape and at most `SLOT_BYTES`.

        Raises:
            RuntimeError: another process has ended.
        """
        self.shown += 1
        slots = self._slots[self.shown % 2, :, : own.nbytes].view(own.dtype).view(-1, *own.shape)
        slots[self.rank].copy_(own.detach())
        self._counters[self.rank] = self.shown
        for other in self._others:
            self._wait_for(other)
        return slots.clone()

    def close(self) -> None:
        """Let go of the other processes."""
        for descriptor in self._others.values():
            os.close(descriptor)

    def _wait_for(self, other: int) -> None:
        while True:
            for _ in range(LOOKS):
                if self._counters[other] >= self.shown:
                    return
                os.sched_yield()
            if select.select([self._others[other]], [], [], 0)[0] and self._counters[other] < self.shown:
                raise RuntimeError(f"connection closed: process {other} has ended")


def size_for(count: int) -> int:
    """The bytes that so many processes need."""
    return count * (LINE_BYTES + 2 * SLOT_BYTES)


def share_memory(rank: int, gather_objects: Callable[[Any], list[Any]]) -> SharedMemory | None:
    """Memory that the processes share; None, in all of them, where they are not on one machine that can do so.

    Args:
        rank: this process's number, from 0.
        gather_objects: what each process has -> what all have, in their order.
    """
    if not all(gather_objects(USABLE)):
        return None
    processes = gather_objects(os.getpid())
    path = gather_objects(_make_file(size_for(len(processes))) if rank == 0 else None)[0]
    try:
        here = path is not None and path.exists() and _are_here(processes)
        if not all(gather_objects(here)):
            return None
        memory = SharedMemory(path, rank, processes)
        gather_objects(None)  # all have mapped it
        return memory
    finally:
        if rank == 0 and path is not None:
            path.unlink()  # nothing is left, however the processes end


def _make_file(size: int) -> Path | None:
    """A file with room for what will be written; None where there is none: containers have little such memory."""
    descriptor, name = tempfile.mkstemp(prefix="kd-", dir=FOLDER)
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError:
        os.unlink(name)
        return None
    finally:
        os.close(descriptor)
    return Path(name)


def _are_here(processes: Sequence[int]) -> bool:
    """Whether these processes are on this machine, and not hidden from this one."""
    return all(Path(f"/proc/{number}").exists() for number in processes)
