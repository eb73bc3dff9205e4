"""Biases for classes: what they change, and the ones that leave fewest errors."""

import pytest
import torch

from kd_cli.evaluation.class_bias import add_biases, fit_bias


def count_errors(logits: torch.Tensor, labels: torch.Tensor) -> int:
    return int((logits.argmax(dim=1) != labels).sum())


def test_a_bias_is_added_to_the_logits_of_its_class_alone() -> None:
    logits = torch.zeros(2, 3)
    assert add_biases(logits, {1: 3.5}).tolist() == [[0, 3.5, 0]] * 2
    assert logits.tolist() == [[0, 0, 0]] * 2


def test_no_other_bias_leaves_fewer_errors() -> None:
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(500, 5, generator=random)
    labels = (logits + torch.tensor([0.0, 0, 2, 0, 0]) + torch.randn(500, 5, generator=random)).argmax(dim=1)
    bias = fit_bias(logits, labels, [2])
    fewest = min(count_errors(add_biases(logits, {2: other}), labels) for other in torch.linspace(-5, 5, 2001).tolist())
    assert count_errors(add_biases(logits, {2: bias}), labels) <= fewest < count_errors(logits, labels)


def test_several_classes_have_one_bias() -> None:
    random = torch.Generator().manual_seed(0)
    correct = torch.randn(500, 5, generator=random)
    labels = correct.argmax(dim=1)
    lowered = add_biases(correct, {1: -4.0, 3: -4.0})
    bias = fit_bias(lowered, labels, [1, 3])
    assert bias == pytest.approx(4.0, abs=0.1)
    assert count_errors(add_biases(lowered, {1: bias, 3: bias}), labels) == 0


@pytest.mark.parametrize(
    ("thresholds", "labels", "bias"),
    [
        ([2.0, 6.0], [1, 0], 4.0),
        ([2.0, 3.0, 10.0], [1, 0, 1], 11.0),  # also from 2 to 3, which is narrower
        ([2.0, 2.0, 2.0, 5.0], [1, 0, 1, 0], 3.5),
        ([2.0, 2.0], [1, 0], 1.0),  # between the two there is no bias
    ],
)
def test_it_lies_in_the_middle_of_the_widest_range_with_fewest_errors(
    thresholds: list[float], labels: list[int], bias: float
) -> None:
    """Images are predicted as 1 with a bias above their thresholds."""
    logits = torch.tensor([[threshold, 0.0] for threshold in thresholds])
    assert fit_bias(logits, torch.tensor(labels), [1]) == bias


@pytest.mark.parametrize(("label", "beyond"), [(0, -1), (1, 1)])
def test_it_is_finite_where_the_class_is_never_or_always_correct(label: int, beyond: float) -> None:
    logits = torch.tensor([[2.0, 0.0], [6.0, 0.0]])
    expected = {0: 2.0, 1: 6.0}[label] + beyond
    assert fit_bias(logits, torch.full((2,), label), [1]) == expected
