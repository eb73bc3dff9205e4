"""How long calls take: one image at a time, and in batches."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from time import perf_counter

import numpy as np
import torch

from kd_cli.evaluation.measures import Percentiles

ROUNDS = 20
"""Turns that each of several calls takes."""

ROUND_CALLS = 50
"""Repeats in a turn, where a call is quick."""

LATENCY_SECONDS = 4.0
"""About as long as the repeats of a slow call may take in all."""

SETTLE_SECONDS = 0.005
"""Repeats of this length begin a turn and do not count: meanwhile caches fill, and threads of the call before rest."""

MEASURED_SECONDS = 0.5
"""At least as long are batches measured."""

PERCENTILES = (25, 50, 75, 95, 99)


def measure_latencies(calls: Sequence[Callable[[], object]]) -> list[Percentiles]:
    """How long each call takes, in milliseconds.

    The calls take turns, so that a machine that slows down meanwhile slows all of them. A turn is of many repeats: what
    comes in between would otherwise empty the caches.
    """
    counts = [_count_repeats(call) for call in calls]
    samples: list[list[float]] = [[] for _ in calls]
    for _ in range(ROUNDS):
        for call, count, own in zip(calls, counts, samples, strict=True):
            repeat(call, SETTLE_SECONDS)
            own += timed(call, count)
    return [Percentiles(*map(float, np.percentile(own, PERCENTILES) * 1e3)) for own in samples]


def repeat(call: Callable[[], object], seconds: float | None = None) -> list[float]:
    """Seconds that each of a call's repeats takes; they go on for ``seconds`` in all, `MEASURED_SECONDS` by default."""
    call()  # the first one prepares what the others find ready
    end = perf_counter() + (MEASURED_SECONDS if seconds is None else seconds)
    times = timed(call, 1)
    while perf_counter() < end:
        times += timed(call, 1)
    return times


def timed(call: Callable[[], object], count: int) -> list[float]:
    """Seconds that each of so many calls takes."""
    clock, seconds = _choose_clock(), []
    for _ in range(count):
        start = clock()
        call()
        seconds.append(clock() - start)
    return seconds


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Let torch compute with so many threads for as long as the context is open."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _count_repeats(call: Callable[[], object]) -> int:
    """Repeats of a call in a turn."""
    seconds = min(repeat(call, SETTLE_SECONDS))
    return max(1, min(ROUND_CALLS, int(LATENCY_SECONDS / ROUNDS / seconds)))


def _choose_clock() -> Callable[[], float]:
    """A clock that waits for a GPU, if there is one; torch's looks for one at each reading, for a microsecond."""
    if not torch.accelerator.is_available():
        return perf_counter
    from torch.utils.benchmark import timer

    return timer
