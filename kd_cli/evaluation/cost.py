"""How long networks take, side by side: one image, a batch, the whole test set."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from kd_cli.config import LATENCY_THREADS, THROUGHPUT_BATCH
from kd_cli.evaluation.measures import Cost, Percentiles, Quartiles, Speed
from kd_cli.evaluation.timing import measure_latencies, repeat, timed, torch_threads
from kd_cli.networks.runtimes import Runnable

Open = Callable[[int], Runnable]
"""A number of threads -> a network that is ready to run with them."""

TRIAL_SECONDS = 0.05
"""At least as long is a size of batches tried."""

LARGEST_BATCH = 1024

LONGEST_SECONDS = 1.0
"""A batch that may take longer is not tried."""


@torch.inference_mode()
def measure_costs(networks: Sequence[Open], images: Tensor) -> list[Cost]:
    """What networks take for uint8 images, (N, C, H, W), the whole test set."""
    with torch_threads(LATENCY_THREADS):
        latencies = _measure_latencies([open_network(LATENCY_THREADS) for open_network in networks], images)
    costs = []
    for open_network, latency in zip(networks, latencies, strict=True):
        network = open_network(torch.get_num_threads())
        batch = network.as_input(images[:THROUGHPUT_BATCH])
        slow, median, fast = np.percentile(len(batch) / np.array(repeat(partial(network.forward, batch))), [25, 50, 75])
        whole = np.median(repeat(partial(network.compute_logits, images)))
        costs.append(Cost(latency, float(median), Quartiles(float(slow), float(fast)), float(whole)))
    return costs


@torch.inference_mode()
def measure_speeds(networks: Sequence[Open], images: Tensor, threads: int) -> list[Speed]:
    """How fast networks run with so many threads, for uint8 images, (N, C, H, W)."""
    with torch_threads(threads):
        opened = [open_network(threads) for open_network in networks]
        latencies = _measure_latencies(opened, images)
        throughputs = [_measure_throughput(network, images) for network in opened]
    return [Speed(threads, one, *many) for one, many in zip(latencies, throughputs, strict=True)]


@torch.inference_mode()
def measure_load(load: Callable[[], Runnable], images: Tensor, repeats: int) -> float:
    """Seconds from a network's file to its logits for a first image, the median of repeats."""

    def start() -> None:
        network = load()
        network.forward(network.as_input(images[:1]))

    return float(np.median(timed(start, repeats)))


def _measure_latencies(networks: Sequence[Runnable], images: Tensor) -> list[Percentiles]:
    return measure_latencies([partial(network.forward, network.as_input(images[:1])) for network in networks])


def _measure_throughput(network: Runnable, images: Tensor) -> tuple[int, float]:
    """The size of batches with which a network takes most images per second, and how many those are.

    Powers of two are tried; the best one is measured once more, as the best of several is partly luck.
    """

    def measure(size: int, seconds: float | None = None) -> float:
        return size / float(np.median(repeat(partial(network.forward, network.as_input(images[:size])), seconds)))

    rates: dict[int, float] = {}
    size, seconds = 1, 0.0
    while size <= min(len(images), LARGEST_BATCH) and 2 * seconds < LONGEST_SECONDS:
        rates[size] = measure(size, TRIAL_SECONDS)
        seconds = size / rates[size]
        size *= 2
    best = max(rates, key=rates.__getitem__)
    return best, measure(best)
