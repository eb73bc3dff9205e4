"""Costs: counted as on paper, and measured side by side."""

import pytest
import torch
from torch import Tensor, nn

from kd_cli.config import LATENCY_THREADS
from kd_cli.data.dataset import Dataset, Split
from kd_cli.evaluation.cost import measure_costs
from kd_cli.networks.classifier import build_classifier, count_macs, count_parameters
from kd_cli.networks.spec import parse_spec

pytestmark = pytest.mark.usefixtures("short_measurements")


@pytest.fixture
def few(tiny: Dataset) -> Split:
    return Split(tiny.test.images[:3], tiny.test.labels[:3])


@pytest.mark.parametrize(
    ("spec", "macs"),
    [
        ("mlp-128", 784 * 128 + 128 * 10),
        ("mlp-16-8", 784 * 16 + 16 * 8 + 8 * 10),
        # The 20x20 convolution outputs that the pool sees, each of 5x5 weights.
        ("cnn-32", 32 * 20 * 20 * 25 + 512 * 128 + 128 * 10),
    ],
)
def test_macs_are_counted_as_on_paper(tiny: Dataset, spec: str, macs: int) -> None:
    classifier = build_classifier(parse_spec(spec), tiny.info)
    assert count_macs(classifier, torch.rand(1, 1, 28, 28)) == macs == classifier.macs


def test_each_network_has_its_own_costs_in_the_order_given(tiny: Dataset, few: Split) -> None:
    networks = [build_classifier(parse_spec(spec), tiny.info).eval() for spec in ("cnn-4", "mlp-8", "mlp-16")]
    costs = measure_costs(networks, few)
    assert [each.parameters for each in costs] == [count_parameters(network) for network in networks]
    assert [each.macs for each in costs] == [network.macs for network in networks]


def test_figures_are_of_their_kind(tiny: Dataset, few: Split) -> None:
    (found,) = measure_costs([build_classifier(parse_spec("mlp-8"), tiny.info).eval()], few)
    assert 0 < found.latency_ms.p50 <= found.latency_ms.p95
    assert found.throughput_per_s > 0
    assert found.test_set_seconds > 0


class Spy(nn.Module):
    """Notes for how many images, and with how many threads, it is called."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: set[tuple[int, int]] = set()

    def forward(self, pixels: Tensor) -> Tensor:
        self.calls.add((len(pixels), torch.get_num_threads()))
        return pixels.flatten(1)[:, :10]


def test_latency_is_of_one_image_and_throughput_of_a_batch(tiny: Dataset) -> None:
    spy = Spy()
    measure_costs([spy], Split(tiny.test.images.repeat(4, 1, 1, 1), tiny.test.labels.repeat(4)))
    assert {count for count, _ in spy.calls} == {1, 500, 300}  # the test set of 800 in two parts


def test_one_image_is_measured_with_one_thread_and_the_rest_with_all(few: Split) -> None:
    spy, before = Spy(), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        measure_costs([spy], few)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert spy.calls - {(1, 2)} == {(1, LATENCY_THREADS), (3, 2)}  # operations of one image are counted with any
