"""Distilling: every method, from one teacher or several, with all labels or a few."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from kd_cli.commands.distill import distill
from kd_cli.commands.evaluate import evaluate
from kd_cli.commands.job import StudentConfig
from kd_cli.commands.resolve import resolve_student
from kd_cli.commands.results import TrainingResult
from kd_cli.commands.train_teacher import train_teacher
from kd_cli.config import (
    ConfigError,
    DataConfig,
    KdError,
    LabelConfig,
    OutputConfig,
    RunConfig,
    TeacherConfig,
    TrainingConfig,
    Transfer,
)
from kd_cli.distillation.methods import FROM_LABELS, METHODS, FeatureLevel, MethodConfig
from kd_cli.networks.checkpoint import load_checkpoint
from kd_cli.networks.spec import parse_spec
from kd_cli.training.loop import Callback, Epoch, Training

CPU = torch.device("cpu")
CNN = parse_spec("cnn-2")


class Watch(Callback):
    """Counts the steps, and stops after an epoch if asked to."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.stop_after, self.steps = stop_after, 0

    def on_step_end(self, training: Training) -> None:
        self.steps += 1

    def on_epoch_end(self, training: Training, epoch: Epoch) -> None:
        training.stop_requested = epoch.number == self.stop_after


def weights(result: TrainingResult) -> torch.Tensor:
    return torch.cat([each.flatten() for each in load_checkpoint(Path(result.checkpoint), CPU).classifier.parameters()])


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_a_student_that_is_not_the_baselines(
    data: DataConfig, run: RunConfig, tmp_path: Path, method: str
) -> None:
    train_teacher(CNN, data, TrainingConfig(epochs=1), run)
    config = StudentConfig(CNN, MethodConfig(method), data=data, run=run, training=TrainingConfig(epochs=2))
    result = distill(config)
    baseline = distill(replace(config, method=FROM_LABELS), OutputConfig(tmp_path / "baseline"))
    assert (result.method, result.method_options) == (method, MethodConfig(method).options)
    assert all(math.isfinite(epoch.loss) for epoch in result.history)
    assert result.accuracy > 0.3  # chance is 0.1
    assert torch.equal(weights(result), weights(baseline)) == (method == "labels")
    assert load_checkpoint(Path(result.checkpoint), CPU).metadata.method == method


def test_the_result_names_method_teachers_and_options(student: StudentConfig, trained_teacher: TrainingResult) -> None:
    result = distill(replace(student, method=MethodConfig("kd", temperature=2)))
    assert (result.role, result.architecture, result.dataset) == ("student", "mlp-8", "digits")
    assert result.teachers == (trained_teacher.checkpoint,)
    assert result.method_options == {"temperature": 2, "alpha": 0.9}
    assert Path(result.checkpoint) == student.run.models_dir / "digits" / "student.safetensors"


def test_the_layers_that_were_compared_are_told_and_kept(student: StudentConfig) -> None:
    result = distill(replace(student, method=MethodConfig("cc", student_layer="fc1", teacher_layer="fc2")))
    layers = {"student_layer": "fc1", "teacher_layer": "fc2"}
    assert result.method_options == {"weight": 0.02} | layers
    assert load_checkpoint(Path(result.checkpoint), CPU).metadata.options.items() >= layers.items()


def test_a_layer_that_is_not_there_is_refused_with_the_nearest(student: StudentConfig) -> None:
    with pytest.raises(KdError, match=r"--teacher-layer: the network has no layer 'fc3': did you mean fc"):
        distill(replace(student, method=MethodConfig("cc", teacher_layer="fc3")))


def test_the_seconds_of_training_are_the_sum_of_the_epochs(student: StudentConfig) -> None:
    result = distill(replace(student, training=TrainingConfig(epochs=3)))
    assert len(result.history) == 3
    assert result.train_seconds == math.fsum(epoch.seconds for epoch in result.history) > 0


def test_alpha_0_is_the_baseline_to_the_bit_and_needs_no_teacher(student: StudentConfig, tmp_path: Path) -> None:
    baseline = distill(replace(student, method=FROM_LABELS), OutputConfig(tmp_path / "baseline"))
    nobody = replace(student.run, models_dir=tmp_path / "nobody")
    result = distill(
        replace(student, method=MethodConfig("kd", alpha=0), run=nobody), OutputConfig(tmp_path / "alpha-0")
    )
    assert (result.method, result.method_options, result.teachers) == ("labels", {}, ())
    assert torch.equal(weights(result), weights(baseline))


def test_a_better_teacher_makes_a_student_that_agrees_with_it(data: DataConfig, run: RunConfig) -> None:
    train_teacher(parse_spec("mlp-64"), data, TrainingConfig(epochs=8, lr=0.003), run)
    config = StudentConfig(parse_spec("mlp-32"), data=data, run=run, training=TrainingConfig(epochs=8, lr=0.003))
    distill(config)
    _, student = evaluate((), data, run).models
    assert student.agreement is not None
    assert student.agreement > 0.9


class TestSeveralTeachers:
    @pytest.fixture
    def teachers(self, data: DataConfig, run: RunConfig, tmp_path: Path) -> tuple[Path, Path]:
        paths = tmp_path / "first", tmp_path / "second"
        for seed, path in enumerate(paths):
            train_teacher(parse_spec("mlp-16"), data, TrainingConfig(epochs=2, seed=seed), run, OutputConfig(path))
        return paths

    def test_all_of_them_teach(self, student: StudentConfig, teachers: tuple[Path, Path], tmp_path: Path) -> None:
        results = [
            distill(replace(student, teachers=TeacherConfig(given)), OutputConfig(tmp_path / f"student-{number}"))
            for number, given in enumerate((teachers, teachers[:1], teachers[1:]))
        ]
        assert results[0].teachers == tuple(map(str, teachers))
        assert len({tuple(weights(result).tolist()) for result in results}) == 3

    def test_one_given_twice_teaches_like_one(
        self, student: StudentConfig, teachers: tuple[Path, Path], tmp_path: Path
    ) -> None:
        once, twice = (
            distill(replace(student, teachers=TeacherConfig(given)), OutputConfig(tmp_path / f"student-{len(given)}"))
            for given in (teachers[:1], teachers[:1] * 2)
        )
        torch.testing.assert_close(weights(once), weights(twice), rtol=1e-3, atol=1e-5)

    def test_a_saved_ensemble_teaches_as_a_whole(self, student: StudentConfig, tmp_path: Path) -> None:
        train_teacher(parse_spec("mlp-16"), student.data, TrainingConfig(epochs=1), student.run, ensemble=3)
        result = distill(replace(student, teachers=TeacherConfig(ensemble=3)))
        names = [Path(teacher).name for teacher in result.teachers]
        assert names == ["teacher.safetensors", "teacher-2.safetensors", "teacher-3.safetensors"]

    def test_an_ensemble_with_a_foreign_member_is_refused(self, student: StudentConfig) -> None:
        train_teacher(parse_spec("mlp-4"), student.data, TrainingConfig(epochs=1), student.run, ensemble=3)
        train_teacher(parse_spec("mlp-16"), student.data, TrainingConfig(epochs=1), student.run)
        with pytest.raises(KdError, match="of one ensemble"):
            distill(replace(student, teachers=TeacherConfig(ensemble=3)))

    @pytest.mark.parametrize(
        "method",
        [name for name, row in METHODS.items() if row.reads in (FeatureLevel.penultimate, FeatureLevel.maps)],
    )
    def test_features_are_compared_with_one_teacher_only(
        self, student: StudentConfig, teachers: tuple[Path, Path], method: str
    ) -> None:
        config = replace(student, architecture=CNN, method=MethodConfig(method), teachers=TeacherConfig(teachers))
        with pytest.raises(KdError, match=r"give one, or use kd|has none"):
            distill(config)


class TestFewerLabels:
    @pytest.mark.parametrize(
        ("method", "transfer", "steps"),
        [("kd", Transfer.labelled, 11), ("kd", Transfer.all, 21), ("labels", Transfer.all, 21)],
    )
    def test_other_images_are_left_out_or_shown_without_their_labels(
        self, student: StudentConfig, method: str, transfer: Transfer, steps: int
    ) -> None:
        watch = Watch()
        config = replace(student, method=MethodConfig(method), labels=LabelConfig(0.5, transfer))
        result = distill(config, callbacks=[watch])
        assert watch.steps == steps
        assert (result.options["train_fraction"], result.options["transfer"]) == (0.5, transfer)

    def test_all_labels_are_not_mentioned(self, student: StudentConfig) -> None:
        assert "train_fraction" not in distill(student).options

    @pytest.mark.parametrize("fraction", [0.9999, 0.995, 1e-6])
    def test_a_fraction_that_cannot_be_honoured_is_refused(self, student: StudentConfig, fraction: float) -> None:
        with pytest.raises(ConfigError, match="--train-fraction"):
            distill(replace(student, labels=LabelConfig(fraction)))

    def test_the_largest_fraction_that_can_be_is_taken(self, student: StudentConfig) -> None:
        # 1,297 images, of which each of ten classes leaves at least one out.
        assert distill(replace(student, labels=LabelConfig(0.99))).options["train_fraction"] == 0.99


class TestFewerClasses:
    @pytest.mark.parametrize("method", ["labels", "kd"])
    def test_the_student_sees_no_image_of_them_and_is_tested_on_all(self, student: StudentConfig, method: str) -> None:
        config = replace(student, method=MethodConfig(method), labels=LabelConfig(only_classes=("7", "8")))
        job = resolve_student(config)
        shown = job.start().batches.split
        assert set(shown.labels.tolist()) == {7, 8}
        assert len(shown) == torch.isin(job.dataset.train.labels, torch.tensor([7, 8])).sum()
        assert set(job.dataset.test.labels.tolist()) == set(range(10))

    def test_the_result_says_which(self, student: StudentConfig) -> None:
        result = distill(replace(student, labels=LabelConfig(omit_class=("3",))))
        assert (result.options["omit_class"], result.options["only_classes"]) == (["3"], [])
        assert load_checkpoint(Path(result.checkpoint), CPU).metadata.options["omit_class"] == ["3"]

    @pytest.mark.parametrize("labels", [LabelConfig(omit_class=("ten",)), LabelConfig(only_classes=("10",))])
    def test_an_unknown_class_is_refused_before_anything_slow(
        self, student: StudentConfig, labels: LabelConfig
    ) -> None:
        with pytest.raises(ConfigError, match="unknown class"):
            resolve_student(replace(student, labels=labels))


class TestStopping:
    def test_a_callback_ends_the_run_after_its_epoch_and_the_network_is_saved(self, student: StudentConfig) -> None:
        result = distill(replace(student, training=TrainingConfig(epochs=5)), callbacks=[Watch(stop_after=2)])
        assert (result.epochs, len(result.history), result.options["stopped_after"]) == (2, 2, 2)
        metadata = load_checkpoint(Path(result.checkpoint), CPU).metadata
        assert (metadata.options["stopped_after"], metadata.options["epochs"]) == (2, 5)
        assert metadata.accuracy == result.accuracy == result.history[-1].accuracy

    def test_a_run_to_the_end_does_not_say_that_it_was_stopped(self, student: StudentConfig) -> None:
        assert "stopped_after" not in distill(student).options


@pytest.mark.parametrize("path", ["", ".", "/"])
def test_an_output_that_names_no_file_is_refused_before_any_training(student: StudentConfig, path: str) -> None:
    watch = Watch()
    with pytest.raises(KdError, match="add a file name"):
        distill(student, OutputConfig(Path(path)), callbacks=[watch])
    assert watch.steps == 0
