"""The device that does the work, and how to make it do the same work twice."""

import ctypes
import platform

import torch

from kd_cli.settings import DeviceName, KdError


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


def describe(device: torch.device) -> dict[str, str]:
    """The device for programs, and for people with the hardware or the number of threads behind it."""
    detail = ""
    if device.type == "cuda":
        detail = f" ({torch.cuda.get_device_name(device)})"
    elif device.type == "cpu":
        threads = torch.get_num_threads()
        detail = f" ({threads} thread{'s' if threads > 1 else ''})"
    return {"device": device.type, "device_name": device.type + detail}


def make_repeatable(seed: int) -> None:
    """Same seed, same machine, same weights to the bit."""
    torch.manual_seed(seed)
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False


def keep_freed_memory() -> None:
    """Tell glibc to keep freed memory instead of handing it back to the kernel.

    Every training step allocates and frees the same few megabytes. Mapped anew each time, they cost a page fault per
    4 kB, which is up to half of a convolution's time. Elsewhere than on glibc this does nothing.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    m_trim_threshold, m_mmap_threshold = -1, -3  # from <malloc.h>
    libc = ctypes.CDLL(None)
    libc.mallopt(m_mmap_threshold, 1 << 30)
    libc.mallopt(m_trim_threshold, 1 << 30)
