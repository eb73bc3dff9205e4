from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from kd_cli.data import Dataset, Split
from kd_cli.device import make_repeatable
from kd_cli.networks import build, compute_logits
from kd_cli.objectives import from_labels
from kd_cli.settings import Schedule, TrainingSettings, parse_spec
from kd_cli.train import Silent, Training

SETTINGS = TrainingSettings(epochs=2)


class Counter(Silent):
    steps = 0

    def update(self, n: int) -> None:
        self.steps += n


def start(mnist: Dataset, split: Split, settings: TrainingSettings, spec: str = "mlp-16") -> Training:
    make_repeatable(settings.seed)
    return Training(build(parse_spec(spec)), from_labels, split, mnist.normalisation, settings)


def weights(network: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


def train(mnist: Dataset, split: Split, settings: TrainingSettings, spec: str = "mlp-16") -> Training:
    training = start(mnist, split, settings, spec)
    for _ in range(settings.epochs):
        training.run_epoch(Counter())
    return training


@pytest.mark.parametrize("spec", ["mlp-16", "cnn-4"])
@pytest.mark.parametrize("augment", [False, True])
def test_same_seed_gives_the_same_weights_to_the_bit(
    mnist: Dataset, mnist_slice: Split, spec: str, augment: bool
) -> None:
    settings = replace(SETTINGS, augment=augment)
    first, second = (train(mnist, mnist_slice, settings, spec) for _ in range(2))
    assert torch.equal(weights(first.network), weights(second.network))


def test_random_numbers_drawn_elsewhere_do_not_change_what_is_learnt(mnist: Dataset, mnist_slice: Split) -> None:
    first = train(mnist, mnist_slice, SETTINGS)
    second = start(mnist, mnist_slice, SETTINGS)
    for _ in range(SETTINGS.epochs):
        torch.rand(7)
        second.run_epoch(Counter())
    assert torch.equal(weights(first.network), weights(second.network))


def test_another_seed_gives_other_weights(mnist: Dataset, mnist_slice: Split) -> None:
    first, second = (train(mnist, mnist_slice, replace(SETTINGS, seed=seed)) for seed in (0, 1))
    assert not torch.equal(weights(first.network), weights(second.network))


@pytest.mark.parametrize("spec", ["mlp-128", "cnn-8"])
def test_two_epochs_on_3000_pictures_read_most_of_the_test_set(mnist: Dataset, mnist_slice: Split, spec: str) -> None:
    network = train(mnist, mnist_slice, SETTINGS, spec).network
    predicted = compute_logits(network, mnist.test.images, mnist.normalisation).argmax(1)
    assert (predicted == mnist.test.labels).double().mean() > 0.88


def test_epoch_reports_the_mean_loss_and_accuracy_of_its_batches(mnist: Dataset, mnist_slice: Split) -> None:
    training = start(mnist, mnist_slice, replace(SETTINGS, lr=1e-12, schedule=Schedule.constant, batch_size=70))
    images, labels = mnist.normalisation(mnist_slice.images), mnist_slice.labels
    logits = training.network(images)
    epoch = training.run_epoch(Counter())
    assert epoch.loss == pytest.approx(torch.nn.functional.cross_entropy(logits, labels).item(), rel=1e-4)
    assert epoch.accuracy == pytest.approx((logits.argmax(1) == labels).double().mean().item(), abs=1e-3)


def test_bar_moves_on_with_every_step_including_the_smaller_last_one(mnist: Dataset, mnist_slice: Split) -> None:
    training = start(mnist, mnist_slice, replace(SETTINGS, epochs=1, batch_size=64))
    bar = Counter()
    training.run_epoch(bar)
    assert bar.steps == training.total_steps == 47  # 3,000 / 64, rounded up


def test_a_batch_larger_than_the_data_set_is_the_whole_data_set(mnist: Dataset, mnist_slice: Split) -> None:
    bar = Counter()
    start(mnist, mnist_slice, replace(SETTINGS, batch_size=10**6)).run_epoch(bar)
    assert bar.steps == 1


@pytest.mark.skipif(torch.get_num_threads() == 1, reason="needs two threads")
@pytest.mark.parametrize(("spec", "alone"), [("mlp-128", True), ("cnn-32", False)])
def test_only_work_that_is_worth_sharing_is_shared_among_threads(
    mnist: Dataset, mnist_slice: Split, spec: str, alone: bool
) -> None:
    threads = set()

    class Spy(Counter):
        def update(self, n: int) -> None:
            threads.add(torch.get_num_threads())

    before = torch.get_num_threads()
    start(mnist, mnist_slice, SETTINGS, spec).run_epoch(Spy())
    assert threads == {1 if alone else before}
    assert torch.get_num_threads() == before
