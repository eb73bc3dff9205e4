"""Evaluating: what is said of each network, and of the student beside its teacher."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from kd_cli.commands.distill import distill
from kd_cli.commands.evaluate import DISAGREEMENTS, evaluate
from kd_cli.commands.job import StudentConfig
from kd_cli.commands.results import EvaluationResult, TrainingResult
from kd_cli.config import (
    ClassBias,
    ClassBiasConfig,
    ConfigError,
    KdError,
    LabelConfig,
    OutputConfig,
    RunConfig,
    TrainingConfig,
)
from kd_cli.data import prepared
from kd_cli.distillation.methods import FROM_LABELS
from kd_cli.evaluation.class_bias import fit_bias
from kd_cli.evaluation.quality import expected_calibration_error
from kd_cli.networks.checkpoint import load_checkpoint
from kd_cli.networks.classifier import compute_logits
from tests.conftest import CommandLine

CPU = torch.device("cpu")


@pytest.fixture
def trained_student(student: StudentConfig) -> TrainingResult:
    return distill(student)


@pytest.fixture
def result(student: StudentConfig, run: RunConfig, trained_student: TrainingResult) -> EvaluationResult:
    return evaluate((), student.data, run)


def predict(checkpoint: str, student: StudentConfig) -> torch.Tensor:
    images = prepared.load(student.data).test.images
    return compute_logits(load_checkpoint(Path(checkpoint), CPU).classifier, images).argmax(dim=1)


def test_accuracy_is_what_training_reported(
    result: EvaluationResult, trained_teacher: TrainingResult, trained_student: TrainingResult
) -> None:
    for model, trained in zip(result.models, (trained_teacher, trained_student), strict=True):
        assert (model.role, model.checkpoint) == (trained.role, trained.checkpoint)
        assert (model.architecture, model.parameters) == (trained.architecture, trained.parameters)
        assert (model.method, model.shipped) == (trained.method, False)
        assert model.error_count == trained.error_count
        assert model.accuracy == trained.accuracy


def test_calibration_is_also_measured_as_predict_states_confidences(run: RunConfig, student: StudentConfig) -> None:
    warped = replace(student, training=TrainingConfig(epochs=1, augment=("warp",)))
    trained = distill(warped)
    own, dataset = load_checkpoint(Path(trained.checkpoint), CPU), prepared.load(student.data)
    (model,) = evaluate([Path(trained.checkpoint)], student.data, run).models
    logits = compute_logits(own.classifier, dataset.test.images)
    assert own.metadata.confidence is not None
    assert model.temperature == own.metadata.confidence.temperature != 1
    assert model.ece == pytest.approx(expected_calibration_error(logits, dataset.test.labels))
    scaled = logits / own.metadata.confidence.temperature
    assert model.scaled_ece == pytest.approx(expected_calibration_error(scaled, dataset.test.labels))


def test_confusion_and_per_class_accuracy_count_the_same_images(result: EvaluationResult) -> None:
    assert (result.test_images, len(result.classes)) == (500, 10)
    for model in result.models:
        counts = torch.tensor(model.confusion)
        assert counts.shape == (10, 10)
        assert counts.sum() == 500
        assert counts.sum() - counts.trace() == model.error_count
        assert model.per_class_accuracy == pytest.approx((counts.diagonal() / counts.sum(dim=1)).tolist())


def test_agreement_is_with_the_teacher(
    result: EvaluationResult,
    student: StudentConfig,
    trained_teacher: TrainingResult,
    trained_student: TrainingResult,
) -> None:
    teacher_says, student_says = (predict(each.checkpoint, student) for each in (trained_teacher, trained_student))
    expected = (teacher_says == student_says).double().mean().item()
    assert [model.agreement for model in result.models] == [1, pytest.approx(expected)]


def test_only_a_student_has_disagreements_and_they_are_true_and_sorted(
    result: EvaluationResult, student: StudentConfig, trained_student: TrainingResult
) -> None:
    teacher, other = result.models
    assert teacher.disagreements is None
    assert other.disagreements is not None
    assert 1 <= len(other.disagreements) <= DISAGREEMENTS
    predicted = predict(trained_student.checkpoint, student)
    for each in other.disagreements:
        assert each.student.class_index == predicted[each.index] != each.teacher.class_index
    divergences = [each.divergence for each in other.disagreements]
    assert divergences == sorted(divergences, reverse=True)


def test_a_student_alone_agrees_with_nobody(
    student: StudentConfig, run: RunConfig, trained_student: TrainingResult
) -> None:
    (model,) = evaluate([Path(trained_student.checkpoint)], student.data, run).models
    assert (model.agreement, model.disagreements) == (None, None)


def test_checkpoints_are_evaluated_in_the_order_given(
    student: StudentConfig, run: RunConfig, trained_teacher: TrainingResult, trained_student: TrainingResult
) -> None:
    paths = [Path(trained_student.checkpoint), Path(trained_teacher.checkpoint)]
    result = evaluate(paths, replace(student.data, dataset="auto"), run)
    assert result.dataset == "digits"
    assert [model.checkpoint for model in result.models] == list(map(str, paths))
    assert result.models[0].agreement is not None


def test_a_file_named_like_a_state_dict_that_training_wrote_is_read(
    student: StudentConfig, run: RunConfig, tmp_path: Path
) -> None:
    trained = distill(student, OutputConfig(tmp_path / "x.pth"))
    (model,) = evaluate([tmp_path / "x.pth"], student.data, run).models
    assert model.error_count == trained.error_count


def test_a_bias_for_a_class_is_measured_beside_the_network_as_it_is(
    student: StudentConfig, run: RunConfig, trained_student: TrainingResult
) -> None:
    paths, bias = [Path(trained_student.checkpoint)], ClassBiasConfig(class_bias=(ClassBias("3", 100.0),))
    (model,) = evaluate(paths, student.data, run, bias=bias).models
    assert model.error_count == trained_student.error_count
    biased = model.with_class_bias
    assert biased is not None
    assert (biased.biases, biased.fitted_to) == ({"3": 100.0}, None)
    assert [sum(column) for column in zip(*biased.quality.confusion, strict=True)] == [0, 0, 0, 500, 0, 0, 0, 0, 0, 0]


def test_without_a_bias_none_is_measured(result: EvaluationResult) -> None:
    assert [model.with_class_bias for model in result.models] == [None, None]


def test_a_bias_is_fitted_to_validation_images_of_each_network(
    student: StudentConfig, run: RunConfig, caplog: pytest.LogCaptureFixture
) -> None:
    data = replace(student.data, validation_fraction=0.2)
    training = TrainingConfig(epochs=5, lr=0.01)
    labels = LabelConfig(omit_class=("3",))
    trained = distill(replace(student, data=data, training=training, labels=labels, method=FROM_LABELS))
    bias = ClassBiasConfig(fit_class_bias=("3",))
    (model,) = evaluate([Path(trained.checkpoint)], data, run, bias=bias).models
    dataset = prepared.load(data)
    assert model.with_class_bias is not None
    assert dataset.validation is not None
    assert model.with_class_bias.fitted_to == len(dataset.validation)
    logits = compute_logits(load_checkpoint(Path(trained.checkpoint), CPU).classifier, dataset.validation.images)
    expected = fit_bias(logits, dataset.validation.labels, [3])
    assert model.with_class_bias.biases == {"3": pytest.approx(expected)}
    assert not caplog.records


def test_a_bias_that_is_fitted_to_images_which_the_network_may_know_is_noticed(
    student: StudentConfig, run: RunConfig, trained_student: TrainingResult, caplog: pytest.LogCaptureFixture
) -> None:
    data = replace(student.data, validation_fraction=0.2)
    evaluate([Path(trained_student.checkpoint)], data, run, bias=ClassBiasConfig(fit_class_bias=("3",)))
    assert "may have learnt those" in caplog.text


@pytest.mark.parametrize(
    ("bias", "says"),
    [
        (ClassBiasConfig(class_bias=(ClassBias("ten", 1.0),)), "unknown class 'ten'"),
        (ClassBiasConfig(fit_class_bias=("ten",)), "unknown class 'ten'"),
        (ClassBiasConfig(fit_class_bias=("3",)), "--validation-fraction 0.1"),
    ],
)
def test_a_bias_that_cannot_be_used_is_refused(
    student: StudentConfig, run: RunConfig, trained_student: TrainingResult, bias: ClassBiasConfig, says: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(says)):
        evaluate([Path(trained_student.checkpoint)], student.data, run, bias=bias)


def test_a_bias_for_every_class_is_refused(
    student: StudentConfig, run: RunConfig, trained_student: TrainingResult
) -> None:
    data, bias = replace(student.data, validation_fraction=0.2), ClassBiasConfig(fit_class_bias=tuple("0123456789"))
    with pytest.raises(ConfigError, match="name fewer"):
        evaluate([Path(trained_student.checkpoint)], data, run, bias=bias)


def test_a_file_that_is_not_there_is_named(student: StudentConfig, run: RunConfig) -> None:
    with pytest.raises(KdError, match=r"no checkpoint missing\.safetensors"):
        evaluate([Path("missing.safetensors")], student.data, run)


@pytest.mark.parametrize("command", ["evaluate", "benchmark"])
def test_a_plot_replaces_no_file_of_the_users(kd: CommandLine, command: str) -> None:
    Path("photo.png").write_bytes(b"a photograph")
    code, _, stderr = kd(command, "--dataset", "digits", "--plot", "photo.png")
    assert (code, stderr.count("\n")) == (1, 1)
    assert "photo.png: it is a file that kd did not write" in stderr
    assert Path("photo.png").read_bytes() == b"a photograph"
