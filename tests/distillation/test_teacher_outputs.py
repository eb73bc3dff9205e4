"""What distillation minimises, and that every soft target belongs to its picture."""

from collections.abc import Callable

import pytest
import torch
from torch.nn import functional as F

from kd_cli.batches import Batch, batches
from kd_cli.data import Dataset, Split
from kd_cli.losses import soft_target_loss
from kd_cli.methods import MethodName, choose
from kd_cli.networks import Network, build
from kd_cli.objectives import Objective, bind, from_labels
from kd_cli.settings import TrainingSettings, parse_spec
from kd_cli.teaching import Teaching, cached_teacher, live_teacher
from kd_cli.train import Silent, Training

Distil = Callable[[float, float], Objective]
"""Temperature and alpha -> the objective."""


@pytest.fixture
def batch(mnist: Dataset) -> Batch:
    index = torch.arange(32)
    return Batch(mnist.normalisation(mnist.train.images[:32]), mnist.train.labels[:32], index)


@pytest.fixture
def student() -> Network:
    torch.manual_seed(2)
    return build(parse_spec("mlp-16"))


@pytest.fixture
def distil(mnist: Dataset, mnist_slice: Split, teacher: Network, student: Network) -> Distil:
    """The objective of ``kd distill --temperature T --alpha A``."""
    teaching = Teaching([teacher], mnist_slice, mnist.normalisation, augment=False)

    def bound(temperature: float, alpha: float) -> Objective:
        choice = choose(MethodName.kd, {"temperature": temperature, "alpha": alpha})
        return bind(choice, teaching, student, seed=0)

    return bound


def test_temperature_1_and_alpha_1_is_the_plain_kl_divergence(
    distil: Distil, teacher: Network, student: Network, batch: Batch
) -> None:
    ours = distil(1, 1)(student, batch).loss
    log_student, target = F.log_softmax(student(batch.images), 1), F.softmax(teacher(batch.images), 1)
    torch.testing.assert_close(ours, F.kl_div(log_student, target, reduction="batchmean"))


def test_loss_is_the_weighted_sum_of_both_terms(
    distil: Distil, teacher: Network, student: Network, batch: Batch
) -> None:
    ours = distil(4, 0.9)(student, batch).loss
    logits, target = student(batch.images), F.softmax(teacher(batch.images) / 4, 1)
    soft = F.kl_div(F.log_softmax(logits / 4, 1), target, reduction="batchmean")
    torch.testing.assert_close(ours, 0.9 * 16 * soft + 0.1 * F.cross_entropy(logits, batch.labels))


def test_what_reaches_the_student_is_the_gradient_of_the_loss(
    distil: Distil, teacher: Network, student: Network, batch: Batch
) -> None:
    distil(4, 0.9)(student, batch).backward()
    found = [parameter.grad for parameter in student.parameters()]
    logits, target = student(batch.images), F.softmax(teacher(batch.images) / 4, 1)
    soft = F.kl_div(F.log_softmax(logits / 4, 1), target, reduction="batchmean")
    loss = 0.9 * 16 * soft + 0.1 * F.cross_entropy(logits, batch.labels)
    torch.testing.assert_close(found, list(torch.autograd.grad(loss, list(student.parameters()))))


def test_alpha_0_is_the_cross_entropy_with_the_labels(
    distil: Distil, teacher: Network, student: Network, batch: Batch
) -> None:
    ours = distil(4, 0)(student, batch).loss
    torch.testing.assert_close(ours, from_labels(student, batch).loss)


def test_gradients_at_high_temperature_approach_logit_matching() -> None:
    """Hinton et al. 2015, equation 4: for T far above the logits, T^2 * dKL/dz = (z - v) / classes, both centred."""
    z, v = (torch.randn(4, 10, dtype=torch.double) for _ in range(2))
    z.requires_grad_()
    (soft_target_loss(z, v, 1e4) * len(z)).backward()
    centred = (z - z.mean(1, keepdim=True)) - (v - v.mean(1, keepdim=True))
    torch.testing.assert_close(z.grad, centred.detach() / 10, rtol=1e-2, atol=1e-4)


def test_teacher_is_not_trained(distil: Distil, teacher: Network, student: Network, batch: Batch) -> None:
    distil(4, 0.9)(student, batch).backward()
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_each_cached_row_belongs_to_its_picture_under_shuffling(
    teacher: Network, mnist: Dataset, mnist_slice: Split
) -> None:
    cached = cached_teacher(teacher, mnist_slice, mnist.normalisation)
    live = live_teacher(teacher)
    random = torch.Generator().manual_seed(5)
    for _epoch in range(2):
        for shuffled in batches(mnist_slice, 64, mnist.normalisation, random):
            torch.testing.assert_close(cached(shuffled), live(shuffled))


def test_shuffling_gives_another_order_in_every_epoch(mnist: Dataset, mnist_slice: Split) -> None:
    random = torch.Generator().manual_seed(5)
    first, second = (torch.cat([b.index for b in batches(mnist_slice, 64, mnist.normalisation, random)]) for _ in "ab")
    assert not torch.equal(first, second)


def test_alpha_0_trains_the_very_weights_that_labels_alone_train(
    distil: Distil, mnist: Dataset, mnist_slice: Split
) -> None:
    weights = []
    for objective in (from_labels, distil(4, 0)):
        torch.manual_seed(0)
        network = build(parse_spec("mlp-16"))
        training = Training(network, objective, mnist_slice, mnist.normalisation, TrainingSettings(epochs=1))
        training.run_epoch(Silent())
        weights.append(torch.cat([parameter.flatten() for parameter in network.parameters()]))
    assert torch.equal(*weights)
