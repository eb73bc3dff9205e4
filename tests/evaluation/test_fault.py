"""Which runs that came to their end are no result, and what is advised."""

import pytest
import torch

from kd_cli.evaluation.fault import find_fault, smaller_lr

LABELS = torch.arange(100) % 10
LR = 0.001


@pytest.mark.parametrize(
    ("first", "last", "passes"), [(2.0, 3.9, True), (2.0, 4.1, False), (-1.0, 1.9, True), (-1.0, 2.1, False)]
)
def test_a_loss_may_rise_to_twice_the_first_one(first: float, last: float, passes: bool) -> None:
    fault = find_fault(first, last, accuracy=0.9, labels=LABELS, lr=LR)
    assert (fault is None) == passes
    assert passes or f"the training loss rose from {first:g} to {last:g}: use a smaller --lr" in str(fault)


def test_a_first_loss_that_nobody_knows_is_no_fault() -> None:
    assert find_fault(None, 1e9, accuracy=0.9, labels=LABELS, lr=LR) is None


@pytest.mark.parametrize(("accuracy", "passes"), [(0.1, False), (0.11, True)])
def test_an_accuracy_must_be_better_than_chance(accuracy: float, passes: bool) -> None:
    assert (find_fault(2.0, 1.0, accuracy, LABELS, LR) is None) == passes


def test_chance_is_the_share_of_the_most_frequent_class() -> None:
    labels = torch.tensor([0, 0, 0, 1])
    assert find_fault(2.0, 1.0, accuracy=0.75, labels=labels, lr=LR) is not None


@pytest.mark.parametrize(("lr", "advice"), [(0.001, "a larger --lr or more --epochs"), (0.01, "e.g. --lr 0.001")])
def test_a_network_at_chance_may_have_learnt_too_fast_or_too_little(lr: float, advice: str) -> None:
    assert advice in str(find_fault(2.0, 1.0, accuracy=0.1, labels=LABELS, lr=lr))


@pytest.mark.parametrize(("lr", "smaller"), [(1e6, "0.001"), (0.001, "0.0001")])
def test_a_smaller_learning_rate_is_at_most_the_default_one(lr: float, smaller: str) -> None:
    assert smaller_lr(lr).endswith(f"--lr {smaller}")
