"""Memory: how much there is, and how the C library hands it out. Free of torch."""

import ctypes
import os
import platform

from kd_cli.config import KdError


def require_memory(needed: int, what: str) -> None:
    """Refuse work that no memory of this machine can hold, before the machine grinds to a halt.

    Args:
        needed: bytes, a lower bound.
        what: what needs them, for the message.

    Raises:
        KdError: the machine has less memory.
    """
    if not hasattr(os, "sysconf"):
        return
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > there:
        raise KdError(
            f"{what} needs at least {needed / 1e9:,.0f} GB of memory, and this machine has {there / 1e9:,.0f} GB: "
            "use a smaller architecture"
        )


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
