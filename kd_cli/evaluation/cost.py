"""Cost of a network: parameters, multiply-accumulates, latency, throughput."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from kd_cli.config import LATENCY_THREADS, THROUGHPUT_BATCH
from kd_cli.data.dataset import Split, to_pixels
from kd_cli.evaluation.measures import Cost, Percentiles, Quartiles
from kd_cli.networks.classifier import compute_logits, count_macs, count_parameters

if TYPE_CHECKING:
    from torch.utils.benchmark import Timer

LATENCY_SAMPLES = 300
MEASURED_SECONDS = 0.5


@torch.inference_mode()
def measure_costs(networks: Sequence[nn.Module], test: Split) -> list[Cost]:
    """Measure networks side by side.

    The networks take turns, image by image, so that a machine that slows down meanwhile slows all of them.
    """
    one = to_pixels(test.images[:1])
    many = to_pixels(test.images[:THROUGHPUT_BATCH])
    single = [_timer(partial(network, one), LATENCY_THREADS) for network in networks]
    for timer in single:
        timer.timeit(LATENCY_SAMPLES // 10)  # warm up
    samples = np.array([[timer.timeit(1).median for timer in single] for _ in range(LATENCY_SAMPLES)]) * 1e3
    costs = []
    for network, latencies in zip(networks, samples.T, strict=True):
        batch = _timer(partial(network, many)).blocked_autorange(min_run_time=MEASURED_SECONDS)
        whole = _timer(partial(compute_logits, network, test.images))
        p25, p50, p75, p95 = map(float, np.percentile(latencies, [25, 50, 75, 95]))
        slow, median, fast = (len(many) / seconds for seconds in np.percentile(batch.times, [75, 50, 25]))
        costs.append(
            Cost(
                parameters=count_parameters(network),
                macs=count_macs(network, one),
                latency_ms=Percentiles(p25, p50, p75, p95),
                throughput_per_s=float(median),
                throughput_quartiles_per_s=Quartiles(float(slow), float(fast)),
                test_set_seconds=whole.blocked_autorange(min_run_time=MEASURED_SECONDS).median,
            )
        )
    return costs


def _timer(call: Callable[[], object], threads: int | None = None) -> "Timer":
    """A timer of calls, with all the threads that the program uses unless told otherwise (torch's default is one)."""
    from torch.utils.benchmark import Timer

    return Timer("call()", globals={"call": call}, num_threads=threads or torch.get_num_threads())
