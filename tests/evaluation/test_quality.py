import pytest
import torch
from sklearn import metrics
from torch import Tensor
from torchmetrics.functional.classification import multiclass_calibration_error

from kd_cli.evaluate import expected_calibration_error, measure_quality


@pytest.fixture(params=[0.1, 1.0, 4.0], ids=["unsure", "usual", "sure"])
def logits(request: pytest.FixtureRequest) -> Tensor:
    scale: float = request.param
    return torch.randn(997, 7, generator=torch.Generator().manual_seed(0)) * scale


@pytest.fixture
def labels() -> Tensor:
    return torch.randint(0, 7, (997,), generator=torch.Generator().manual_seed(1))


def test_accuracy_and_error_count_are_scikit_learns(logits: Tensor, labels: Tensor) -> None:
    quality = measure_quality(logits, labels)
    assert quality.accuracy == metrics.accuracy_score(labels, logits.argmax(1))
    assert quality.error_count == metrics.zero_one_loss(labels, logits.argmax(1), normalize=False)


def test_nll_is_scikit_learns_log_loss(logits: Tensor, labels: Tensor) -> None:
    expected = metrics.log_loss(labels, logits.double().softmax(1), labels=range(7))
    assert measure_quality(logits, labels).nll == pytest.approx(expected)


def test_confusion_counts_true_classes_in_rows(logits: Tensor, labels: Tensor) -> None:
    expected = metrics.confusion_matrix(labels, logits.argmax(1), labels=range(7))
    assert measure_quality(logits, labels).confusion == expected.tolist()


def test_per_class_accuracy_is_scikit_learns_recall(logits: Tensor, labels: Tensor) -> None:
    expected = metrics.recall_score(labels, logits.argmax(1), average=None, labels=range(7))
    assert measure_quality(logits, labels).per_class_accuracy == pytest.approx(expected)


def test_a_class_without_pictures_has_no_accuracy(logits: Tensor) -> None:
    quality = measure_quality(logits, torch.zeros(len(logits), dtype=torch.long))
    assert quality.per_class_accuracy[1:] == [None] * 6


def test_ece_is_that_of_torchmetrics(logits: Tensor, labels: Tensor) -> None:
    expected = multiclass_calibration_error(logits.double().softmax(1), labels, num_classes=7, n_bins=15, norm="l1")
    assert expected_calibration_error(logits, labels) == pytest.approx(expected.item(), abs=1e-6)


def test_a_network_that_is_surely_right_has_no_calibration_error() -> None:
    labels = torch.arange(7)
    assert expected_calibration_error(torch.eye(7) * 1e4, labels) == 0


def test_agreement_is_the_share_of_pictures_with_the_same_class(labels: Tensor) -> None:
    ours, teachers = torch.eye(7)[[0, 1, 2, 3]], torch.eye(7)[[0, 1, 5, 6]]
    assert measure_quality(ours, labels[:4], teachers).agreement == 0.5


def test_agreement_without_a_teacher_is_unknown(logits: Tensor, labels: Tensor) -> None:
    assert measure_quality(logits, labels).agreement is None
