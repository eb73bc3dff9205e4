"""Accuracy, likelihood, calibration, confusion, agreement: those of scikit-learn and torchmetrics, on any device."""

from collections.abc import Callable

import pytest
import torch
from sklearn import metrics
from torch import Tensor
from torch.nn import functional as F
from torchmetrics.functional.classification import multiclass_calibration_error

from kd_cli.evaluation.quality import (
    expected_calibration_error,
    find_disagreements,
    measure_accuracy,
    measure_agreement,
    measure_calibration,
    measure_quality,
)
from tests.other_device import to_device

LOGITS = 3 * torch.randn(500, 10, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(500) % 10


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


@pytest.mark.parametrize("correct", range(8))
def test_accuracy_is_the_same_number_wherever_it_is_measured(correct: int) -> None:
    labels = torch.zeros(7, dtype=torch.long)
    logits = F.one_hot((torch.arange(7) >= correct).long(), 3).float()
    quality = measure_quality(logits, labels)
    assert measure_accuracy(logits, labels) == (quality.accuracy, quality.error_count) == (correct / 7, 7 - correct)


def test_nll_is_scikit_learns_log_loss(logits: Tensor, labels: Tensor) -> None:
    expected = metrics.log_loss(labels, logits.double().softmax(1), labels=range(7))
    assert measure_quality(logits, labels).nll == pytest.approx(expected)


def test_confusion_counts_true_classes_in_rows(logits: Tensor, labels: Tensor) -> None:
    expected = metrics.confusion_matrix(labels, logits.argmax(1), labels=range(7))
    assert measure_quality(logits, labels).confusion == tuple(map(tuple, expected.tolist()))


def test_per_class_accuracy_is_scikit_learns_recall(logits: Tensor, labels: Tensor) -> None:
    expected = metrics.recall_score(labels, logits.argmax(1), average=None, labels=range(7))
    assert measure_quality(logits, labels).per_class_accuracy == pytest.approx(tuple(expected))


def test_a_class_without_images_has_no_accuracy(logits: Tensor) -> None:
    quality = measure_quality(logits, torch.zeros(len(logits), dtype=torch.long))
    assert quality.per_class_accuracy[1:] == (None,) * 6


@pytest.mark.parametrize("classes", [2, 37])
def test_any_number_of_classes_can_be_told_apart(classes: int) -> None:
    labels = torch.arange(100) % classes
    quality = measure_quality(F.one_hot(labels, classes).float(), labels)
    assert quality.accuracy == 1
    assert len(quality.confusion) == len(quality.per_class_accuracy) == classes


def test_ece_is_that_of_torchmetrics(logits: Tensor, labels: Tensor) -> None:
    expected = multiclass_calibration_error(logits.double().softmax(1), labels, num_classes=7, n_bins=15, norm="l1")
    assert expected_calibration_error(logits, labels) == pytest.approx(expected.item(), abs=1e-6)
    assert measure_quality(logits, labels).ece == expected_calibration_error(logits, labels)


def test_a_network_that_is_surely_correct_has_no_calibration_error() -> None:
    labels = torch.arange(7)
    assert expected_calibration_error(torch.eye(7) * 1e4, labels) == 0


def test_agreement_is_the_share_of_images_with_the_same_prediction(labels: Tensor) -> None:
    ours, teachers = torch.eye(7)[[0, 1, 2, 3]], torch.eye(7)[[0, 1, 5, 6]]
    assert measure_quality(ours, labels[:4], teachers).agreement == 0.5


def test_agreement_without_a_teacher_is_unknown(logits: Tensor, labels: Tensor) -> None:
    assert measure_quality(logits, labels).agreement is None


def quality_with_teacher(logits: Tensor, labels: Tensor) -> object:
    return measure_quality(logits, labels, logits.roll(1, dims=0))


@pytest.mark.parametrize(
    "measure",
    [
        measure_quality,
        quality_with_teacher,
        measure_accuracy,
        lambda logits, labels: measure_agreement(logits, logits.roll(1, dims=0)),
        measure_calibration,
        expected_calibration_error,
        lambda logits, labels: find_disagreements(logits, logits.roll(1, dims=0), labels, most=5),
    ],
    ids=["quality", "beside a teacher", "accuracy", "agreement", "calibration", "ECE", "disagreements"],
)
def test_metrics_need_no_device_with_64_bits(measure: Callable[[Tensor, Tensor], object]) -> None:
    assert measure(to_device(LOGITS), to_device(LABELS)) == measure(LOGITS, LABELS)


def test_the_device_of_that_test_refuses_64_bits() -> None:
    with pytest.raises(TypeError, match="float64"):
        to_device(LOGITS).double()


def sure_of(index: int, logit: float) -> Tensor:
    return F.one_hot(torch.tensor([index]), 10).float() * logit


class TestCalibration:
    def test_every_image_is_in_one_bin(self) -> None:
        assert sum(each.count for each in measure_calibration(LOGITS, LABELS)) == 500

    def test_bins_are_of_equal_width_and_leave_no_gap(self) -> None:
        bins = measure_calibration(LOGITS, LABELS)
        assert [each.low for each in bins] == pytest.approx([number / 15 for number in range(15)])
        assert [each.high for each in bins] == pytest.approx([number / 15 for number in range(1, 16)])

    def test_a_bin_has_the_mean_confidence_and_the_share_of_correct_predictions(self) -> None:
        confidence, predicted = LOGITS.softmax(dim=1).max(dim=1)
        inside = (confidence >= 8 / 15) & (confidence < 9 / 15)
        row = measure_calibration(LOGITS, LABELS)[8]
        assert row.count == inside.sum()
        assert row.confidence == pytest.approx(confidence[inside].mean().item(), rel=1e-5)
        assert row.accuracy == pytest.approx((predicted == LABELS)[inside].float().mean().item())

    def test_an_empty_bin_claims_nothing(self) -> None:
        row = measure_calibration(sure_of(0, 50.0), torch.tensor([0]))[3]
        assert (row.count, row.confidence, row.accuracy) == (0, None, None)

    def test_a_certain_prediction_is_in_the_last_bin(self) -> None:
        assert measure_calibration(sure_of(0, 1e4), torch.tensor([0]))[-1].count == 1


class TestDisagreements:
    def test_equal_predictions_are_none(self) -> None:
        assert find_disagreements(LOGITS, 2 * LOGITS, LABELS, most=10) == []

    def test_a_sure_contradiction_comes_before_a_toss_up(self) -> None:
        teacher = torch.cat([sure_of(1, 0.1), sure_of(1, 9.0), sure_of(1, 9.0)])
        student = torch.cat([sure_of(2, 0.1), sure_of(2, 9.0), sure_of(1, 9.0)])
        found = find_disagreements(student, teacher, torch.tensor([1, 1, 1]), most=10)
        assert [each.index for each in found] == [1, 0]

    def test_only_the_most_telling_are_kept(self) -> None:
        found = find_disagreements(LOGITS, LOGITS.roll(1, dims=1), LABELS, most=500)
        assert find_disagreements(LOGITS, LOGITS.roll(1, dims=1), LABELS, most=3) == found[:3]

    def test_divergence_is_that_of_the_students_probabilities_from_the_teachers(self) -> None:
        teacher = LOGITS.roll(1, dims=1)
        for each in find_disagreements(LOGITS, teacher, LABELS, most=3):
            p, q = teacher[each.index].double().softmax(0), LOGITS[each.index].double().softmax(0)
            assert each.divergence == pytest.approx((p * (p / q).log()).sum().item())

    def test_names_both_opinions_and_the_label(self) -> None:
        (found,) = find_disagreements(sure_of(2, 50.0), sure_of(1, 50.0), torch.tensor([7]), most=1)
        assert (found.label, found.teacher.class_index, found.student.class_index) == (7, 1, 2)
        assert found.teacher.confidence == pytest.approx(1)
