import pytest
import torch

from kd_cli.benchmark import count_macs, measure_costs
from kd_cli.data import Dataset, Split
from kd_cli.networks import build
from kd_cli.settings import parse_spec


@pytest.mark.parametrize(
    ("spec", "macs"),
    [
        ("mlp-128", 784 * 128 + 128 * 10),
        ("mlp-16-8", 784 * 16 + 16 * 8 + 8 * 10),
        # The 20x20 convolution outputs that the pool sees, each of 5x5 weights.
        ("cnn-32", 32 * 20 * 20 * 25 + 512 * 128 + 128 * 10),
    ],
)
def test_macs_are_counted_as_on_paper(spec: str, macs: int) -> None:
    network = build(parse_spec(spec))
    assert count_macs(network, torch.randn(1, 1, 28, 28)) == macs == network.macs


def test_a_network_with_a_hundred_times_the_work_is_measured_as_slower(digits: Dataset) -> None:
    networks = [build(parse_spec(spec)).eval() for spec in ("mlp-4096-2048", "mlp-8")]
    test = Split(digits.test.images[:100], digits.test.labels[:100])
    large, small = measure_costs(networks, test, digits.normalisation)
    assert large.latency_ms.p50 > small.latency_ms.p50
    assert large.throughput_per_s < small.throughput_per_s
    assert large.test_set_seconds > small.test_set_seconds


def test_one_picture_is_measured_with_one_thread_and_the_rest_with_all(digits: Dataset) -> None:
    seen = set()

    class Spy(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.add((len(x) == 1, torch.get_num_threads()))
            return x.flatten(1)[:, :10]

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        measure_costs([Spy()], Split(digits.test.images[:3], digits.test.labels[:3]), digits.normalisation)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert seen - {(True, 2)} == {(True, 1), (False, 2)}  # operations of one picture are counted with any
