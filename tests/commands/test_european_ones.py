"""``--european-ones`` and ``--as-teacher``: what the weights that ship were trained with."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from kd_cli.commands.job import StudentConfig
from kd_cli.commands.resolve import resolve_student, resolve_teacher
from kd_cli.commands.results import TrainingResult
from kd_cli.config import DataConfig, KdError, LabelConfig, RunConfig, TrainingConfig
from kd_cli.data.dataset import Split
from kd_cli.networks.checkpoint import load_checkpoint
from kd_cli.networks.spec import parse_spec
from tests.conftest import CommandLine, make_dataset, read_json
from tests.sources import register


def with_ones(student: StudentConfig, count: int) -> StudentConfig:
    return replace(student, training=replace(student.training, european_ones=count))


def test_ones_are_added_to_the_training_images_alone(student: StudentConfig) -> None:
    before, job = resolve_student(student), resolve_student(with_ones(student, 20))
    images = job.choose_images()
    assert len(images) == len(before.choose_images()) + 20
    torch.testing.assert_close(images.images[:-20], before.choose_images().images)
    assert images.labels[-20:].tolist() == [1] * 20
    assert images.images.dtype == torch.uint8
    assert images.images[-20:].amax(dim=(1, 2, 3)).min() > 200  # each shows something
    assert len(job.dataset.test) == len(before.dataset.test)


def test_they_are_the_same_for_every_seed_and_kept_with_a_share_of_the_labels(student: StudentConfig) -> None:
    config = replace(with_ones(student, 5), labels=LabelConfig(0.5))
    assert len(resolve_student(config).choose_images()) == len(resolve_student(student).dataset.train) // 2 + 5
    other = replace(student, training=replace(student.training, seed=3))
    full = [resolve_student(with_ones(each, 5)).choose_images().images[-5:] for each in (student, other)]
    torch.testing.assert_close(*full)


def test_teacher_outputs_are_of_the_images_with_them(student: StudentConfig) -> None:
    job = resolve_student(with_ones(student, 20))
    assert len(job.compute_outputs(quiet=True).split) == len(job.dataset.train) + 20


def test_they_change_a_runs_identity_and_stand_in_its_description(student: StudentConfig) -> None:
    job = resolve_student(with_ones(student, 20))
    assert job.identity() != resolve_student(student).identity()
    assert job.options()["european_ones"] == 20


def test_a_data_set_of_something_else_is_refused(run: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, "things", make_dataset())
    with pytest.raises(KdError, match="things is none: leave it out"):
        resolve_teacher(parse_spec("mlp-8"), DataConfig("things"), TrainingConfig(european_ones=1), run)


def test_without_a_plain_one_there_is_nothing_to_draw_a_flag_on(student: StudentConfig) -> None:
    job = resolve_student(with_ones(student, 5))
    blank = Split(torch.zeros_like(job.dataset.train.images), job.dataset.train.labels)
    with pytest.raises(KdError, match="--european-ones: none of the training images"):
        replace(job, dataset=replace(job.dataset, train=blank)).choose_images()


def test_without_the_class_of_ones_there_is_none_either(student: StudentConfig) -> None:
    job = resolve_student(replace(with_ones(student, 5), labels=LabelConfig(omit_class=("1",))))
    with pytest.raises(KdError, match="--european-ones: none of the training images"):
        job.choose_images()


def test_a_student_may_become_the_teacher_of_smaller_ones(
    kd: CommandLine, trained_teacher: TrainingResult, data: DataConfig, run: RunConfig
) -> None:
    common = ("--dataset", "digits", "--data-dir", data.data_dir, "--models-dir", run.models_dir, "--json", "-e", 3)
    large = Path(trained_teacher.checkpoint).rename(run.models_dir / "large.safetensors")
    first = read_json(kd("distill", "--teacher", large, "--student", "mlp-24", "--as-teacher", *common))
    assert first["role"] == "teacher"
    assert first["method"] == "kd"
    kept = load_checkpoint(Path(first["checkpoint"]), torch.device("cpu"))
    assert kept.metadata.role.value == "teacher"
    second = read_json(kd("distill", "--student", "mlp-16", *common))
    assert second["teachers"] == [first["checkpoint"]]
