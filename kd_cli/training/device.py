"""The device that does the work, and how to make it do the same work twice."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch

from kd_cli.config import DeviceName, KdError

MACS_WORTH_SHARING = 10_000_000
"""In one step, forwards. A batch of 64 takes 6.5 million in mlp-128 and 25 million in cnn-32."""

OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")
"""How torch says so in an error of no kind of its own: on Unix, on Windows, and on Apple's GPUs."""


def select(name: DeviceName) -> torch.device:
    """The torch device for ``--device``.

    Raises:
        KdError: this machine, or this build of torch, has no such device.
    """
    available = {
        DeviceName.cuda: torch.cuda.is_available(),
        DeviceName.mps: torch.backends.mps.is_available(),
        DeviceName.cpu: True,
    }
    if name is DeviceName.auto:
        name = next(candidate for candidate, there in available.items() if there)
    if not available[name]:
        raise KdError(f"torch finds no {name.value} device on this machine: use --device cpu or --device auto")
    return torch.device(name.value)


def describe(device: torch.device, threads: int | None = None, processes: int = 1) -> tuple[str, str]:
    """The device for programs, and for people with the hardware or the number of threads behind it.

    Args:
        device: the device that computes.
        threads: how many threads a CPU uses, where it is not torch's number.
        processes: how many processes compute together, each with as many threads, or with such a GPU.
    """
    details = [f"{processes} processes"] if processes > 1 else []
    if device.type == "cuda":
        details.append(torch.cuda.get_device_name(device))
    elif device.type == "cpu":
        threads = threads or torch.get_num_threads()
        details.append(f"{threads} thread{'s' if threads > 1 else ''}")
    return device.type, f"{device.type} ({', '.join(details)})" if details else device.type


def make_repeatable() -> None:
    """Choose algorithms that compute the same bits every time."""
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the memory of the machine or of its GPU is too small."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in OUT_OF_MEMORY)


def usable_cores() -> set[int]:
    """The cores that this process may use."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


@contextmanager
def use_threads(count: int | None) -> Iterator[None]:
    """Compute with so many threads; None leaves their number as it is."""
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def threads_for(macs: int, asked: int | None = None) -> AbstractContextManager[None]:
    """Work with one thread where a step's multiply-accumulates are too few to share, or with as many as asked for.

    Threads that wait for each other after every small product gain nothing on an idle machine, and lose most of their
    time on a busy one. The choice depends on the work alone, so the same command still computes the same bits.
    """
    return use_threads(asked or (1 if macs < MACS_WORTH_SHARING else None))
