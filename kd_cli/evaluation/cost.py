"""Cost of a network: parameters, multiply-accumulates, latency, throughput."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import nn

from kd_cli.config import LATENCY_THREADS, THROUGHPUT_BATCH
from kd_cli.data.dataset import Split, to_pixels
from kd_cli.evaluation import timing
from kd_cli.evaluation.measures import Cost, Quartiles
from kd_cli.networks.classifier import compute_logits, count_macs, count_parameters


@torch.inference_mode()
def measure_costs(networks: Sequence[nn.Module], test: Split) -> list[Cost]:
    """Measure networks side by side: latencies in turns, see `timing`."""
    one = to_pixels(test.images[:1])
    many = to_pixels(test.images[:THROUGHPUT_BATCH])
    with timing.torch_threads(LATENCY_THREADS):
        latencies = timing.measure_latencies([partial(network, one) for network in networks])
    costs = []
    for network, latency in zip(networks, latencies, strict=True):
        seconds = timing.repeat(partial(network, many))
        slow, median, fast = (len(many) / each for each in np.percentile(seconds, [75, 50, 25]))
        costs.append(
            Cost(
                parameters=count_parameters(network),
                macs=count_macs(network, one),
                latency_ms=latency,
                throughput_per_s=float(median),
                throughput_quartiles_per_s=Quartiles(float(slow), float(fast)),
                test_set_seconds=float(np.median(timing.repeat(partial(compute_logits, network, test.images)))),
            )
        )
    return costs
