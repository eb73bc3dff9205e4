"""Calibration and disagreements: what `kd evaluate` says beyond accuracy."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from kd_cli.cli import main
from kd_cli.evaluate import expected_calibration_error, find_disagreements, measure_calibration

LOGITS = 3 * torch.randn(500, 10, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(500) % 10


def sure_of(index: int, logit: float) -> Tensor:
    return F.one_hot(torch.tensor([index]), 10).float() * logit


class TestCalibration:
    def test_every_picture_is_in_one_bin(self) -> None:
        assert sum(each.count for each in measure_calibration(LOGITS, LABELS)) == 500

    def test_a_bin_has_the_mean_confidence_and_the_share_read_right(self) -> None:
        confidence, predicted = LOGITS.softmax(dim=1).max(dim=1)
        inside = (confidence >= 8 / 15) & (confidence < 9 / 15)
        row = measure_calibration(LOGITS, LABELS)[8]
        assert row.count == inside.sum()
        assert row.confidence == pytest.approx(confidence[inside].mean().item(), rel=1e-5)
        assert row.accuracy == pytest.approx((predicted == LABELS)[inside].float().mean().item())

    def test_an_empty_bin_claims_nothing(self) -> None:
        row = measure_calibration(sure_of(0, 50.0), torch.tensor([0]))[3]
        assert (row.count, row.confidence, row.accuracy) == (0, None, None)

    def test_the_ece_is_torchmetrics(self) -> None:
        torchmetrics = pytest.importorskip("torchmetrics.functional.classification")
        expected = torchmetrics.multiclass_calibration_error(LOGITS, LABELS, num_classes=10, n_bins=15)
        assert expected_calibration_error(LOGITS, LABELS) == pytest.approx(expected.item(), abs=1e-6)


class TestDisagreements:
    def test_equal_answers_are_none(self) -> None:
        assert find_disagreements(LOGITS, 2 * LOGITS, LABELS, most=10) == []

    def test_a_sure_contradiction_comes_before_a_toss_up(self) -> None:
        teacher = torch.cat([sure_of(1, 0.1), sure_of(1, 9.0), sure_of(1, 9.0)])
        student = torch.cat([sure_of(2, 0.1), sure_of(2, 9.0), sure_of(1, 9.0)])
        found = find_disagreements(student, teacher, torch.tensor([1, 1, 1]), most=10)
        assert [each.index for each in found] == [1, 0]

    def test_only_the_most_telling_are_kept(self) -> None:
        assert len(find_disagreements(LOGITS, LOGITS.roll(1, dims=1), LABELS, most=3)) == 3

    def test_names_both_opinions_and_the_label(self) -> None:
        (found,) = find_disagreements(sure_of(2, 50.0), sure_of(1, 50.0), torch.tensor([7]), most=1)
        assert (found.label, found.teacher.class_index, found.student.class_index) == (7, 1, 2)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder: Path = tmp_path_factory.mktemp("kd")
    own = ["--dataset", "digits", "--data-dir", str(folder / "data"), "--models-dir", str(folder / "models")]
    assert main(["train-teacher", "--arch", "mlp-16", "--epochs", "2", *own]) == 0
    assert main(["distill", "--student", "mlp-8", "--epochs", "1", *own]) == 0
    return own


def test_the_student_has_disagreements_and_the_teacher_none(
    place: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", "--json", *place]) == 0
    teacher, student = json.loads(capsys.readouterr().out)["models"]
    assert teacher["disagreements"] is None
    assert 1 <= len(student["disagreements"]) <= 10


@pytest.mark.parametrize(("arguments", "shown"), [([], 0), (["--confusion"], 2)])
def test_confusion_is_shown_on_request(
    place: list[str], capsys: pytest.CaptureFixture[str], arguments: list[str], shown: int
) -> None:
    assert main(["evaluate", *arguments, *place]) == 0
    assert capsys.readouterr().out.count("rows are the labels") == shown
