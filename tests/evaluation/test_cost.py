"""Costs: counted as on paper, and measured side by side."""

import pytest
import torch
from torch import Tensor, nn

from kd_cli.config import LATENCY_THREADS
from kd_cli.data.dataset import Dataset, to_pixels
from kd_cli.evaluation import cost, timing
from kd_cli.evaluation.cost import measure_costs, measure_load, measure_speeds
from kd_cli.networks.classifier import build_classifier, count_macs
from kd_cli.networks.runtimes import Runnable
from kd_cli.networks.spec import parse_spec
from tests.evaluation.clock import Call, Clock

pytestmark = pytest.mark.usefixtures("short_measurements")


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


def test_figures_are_of_their_kind(tiny: Dataset) -> None:
    network = Runnable(build_classifier(parse_spec("mlp-8"), tiny.info).eval(), to_pixels)
    (found,) = measure_costs([lambda threads: network], tiny.test.images[:3])
    assert 0 < found.latency_ms.p50 <= found.latency_ms.p95
    assert found.throughput_per_s > 0
    assert found.test_set_seconds > 0


class Spy(nn.Module):
    """Notes for how many images, and with how many threads, it is opened and called."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: set[tuple[int, int]] = set()
        self.opened: set[tuple[int, int]] = set()

    def open(self, threads: int) -> Runnable:
        self.opened.add((threads, torch.get_num_threads()))
        return Runnable(self, to_pixels)

    def forward(self, pixels: Tensor) -> Tensor:
        self.calls.add((len(pixels), torch.get_num_threads()))
        return pixels.flatten(1)[:, :10]


def test_latency_is_of_one_image_and_throughput_of_a_batch(tiny: Dataset) -> None:
    spy = Spy()
    measure_costs([spy.open], tiny.test.images.repeat(4, 1, 1, 1))
    assert {count for count, _ in spy.calls} == {1, 500, 300}  # the test set of 800 in two parts


def test_one_image_is_measured_with_one_thread_and_the_rest_with_all(tiny: Dataset) -> None:
    spy = Spy()
    with timing.torch_threads(2):
        measure_costs([spy.open], tiny.test.images[:3])
        assert torch.get_num_threads() == 2
    assert spy.calls == {(1, LATENCY_THREADS), (3, 2)}
    assert {threads for threads, _ in spy.opened} == {LATENCY_THREADS, 2}


def test_speed_is_measured_with_as_many_threads_as_told(tiny: Dataset) -> None:
    spy = Spy()
    (speed,) = measure_speeds([spy.open], tiny.test.images[:3], threads=2)
    assert speed.threads == 2
    assert spy.opened == {(2, 2)}
    assert {threads for _, threads in spy.calls} == {2}


class Timed:
    """Takes a time that depends on the number of images."""

    def __init__(self, clock: Clock, milliseconds: dict[int, float]) -> None:
        self.clock, self.milliseconds = clock, milliseconds
        self.sizes: list[int] = []

    def open(self, threads: int) -> Runnable:
        return Runnable(self, to_pixels)

    def __call__(self, pixels: Tensor) -> Tensor:
        self.clock.now += self.milliseconds.get(len(pixels), 1000.0) / 1e3
        self.sizes.append(len(pixels))
        return pixels


def test_throughput_is_that_of_the_best_batch_size(tiny: Dataset, clock: Clock) -> None:
    quick = Timed(clock, {1: 2.0, 2: 3.0, 4: 5.0, 8: 9.0, 16: 15.0, 32: 40.0, 64: 80.0, 128: 160.0})
    slow = Timed(clock, {1: 100.0, 2: 250.0, 4: 600.0})
    first, second = measure_speeds([quick.open, slow.open], tiny.test.images, threads=1)
    assert [first.batch_size, first.throughput_per_s] == pytest.approx([16, 16 / 0.015])
    assert [second.batch_size, second.throughput_per_s] == pytest.approx([1, 10])
    assert [first.latency_ms.p50, second.latency_ms.p50] == pytest.approx([2, 100])
    assert max(quick.sizes) == 128  # of 200 images
    assert max(slow.sizes) == 4  # as a batch of 8 would take more than a second


def test_batches_are_no_larger_than_memory_allows(tiny: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "LARGEST_BATCH", 32)
    spy = Spy()
    measure_speeds([spy.open], tiny.test.images, threads=1)
    assert max(count for count, _ in spy.calls) == 32


def test_a_network_is_loaded_when_it_has_seen_its_first_image(tiny: Dataset, clock: Clock) -> None:
    reads = Call(clock, 30.0, 50.0, 400.0)

    def load() -> Runnable:
        reads()
        return Timed(clock, {1: 7.0}).open(1)

    assert measure_load(load, tiny.test.images, repeats=3) == pytest.approx(0.057)
    assert reads.count == 3
