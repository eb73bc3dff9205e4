"""Options of the training step: they reach what they are for, and are part of what a run is."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from kd_cli.commands.distill import distill
from kd_cli.commands.evaluate import evaluate
from kd_cli.commands.job import Job, StudentConfig
from kd_cli.commands.many_runs import count_workers
from kd_cli.commands.resolve import resolve_student, resolve_teacher
from kd_cli.commands.runs import threads_of_worker
from kd_cli.commands.train_teacher import train_teacher
from kd_cli.config import (
    ConfigError,
    DataConfig,
    KdError,
    OptimiserName,
    RunConfig,
    TeacherConfig,
    TrainingConfig,
    TrainingPrecision,
)
from kd_cli.data.labels import NO_LABEL
from kd_cli.distillation.methods import MethodConfig
from kd_cli.networks.checkpoint import load_checkpoint
from kd_cli.networks.classifier import Classifier
from kd_cli.networks.spec import parse_spec
from kd_cli.training.loop import Callback, Training
from tests.conftest import CommandLine

MakeJob = Callable[..., Job]

CHANGES: list[dict[str, Any]] = [
    {"optimiser": OptimiserName.sgd},
    {"weight_decay": 0.1},
    {"label_smoothing": 0.1},
    {"accumulate": 2},
    {"ema": 0.9},
    {"precision": TrainingPrecision.bf16},
]
"""What changes the weights by more than rounding."""

ROUNDING: list[dict[str, Any]] = [{"threads": 2}, {"channels_last": True}, {"compile": True}]


def change(student: StudentConfig, **changes: Any) -> StudentConfig:
    return replace(student, training=replace(student.training, **changes))


@pytest.fixture
def make_job(data: DataConfig, run: RunConfig) -> MakeJob:
    """The job of a small teacher with these options."""
    return lambda **changes: resolve_teacher(parse_spec("mlp-8"), data, TrainingConfig(epochs=1, **changes), run)


@pytest.mark.parametrize("changes", CHANGES + ROUNDING, ids=str)
def test_every_option_is_part_of_a_runs_identity_and_description(make_job: MakeJob, changes: dict[str, Any]) -> None:
    job, usual = make_job(**changes), make_job()
    (name,) = changes
    assert job.options()[name] == changes[name] != usual.options()[name]
    assert job.identity() != usual.identity()


@pytest.mark.parametrize("changes", CHANGES, ids=str)
def test_option_changes_the_weights(make_job: MakeJob, changes: dict[str, Any]) -> None:
    plain, other = make_job().start(), make_job(**changes).start()
    for training in (plain, other):
        training.run_epoch()
    name = "network.fc1.weight"
    assert not torch.equal(plain.result.state_dict()[name], other.result.state_dict()[name])


class TestPrecision:
    def test_fp16_on_a_cpu_is_refused(self, student: StudentConfig, make_job: MakeJob) -> None:
        with pytest.raises(KdError, match="fp16 is for GPUs"):
            resolve_student(change(student, precision=TrainingPrecision.fp16))
        with pytest.raises(KdError, match="fp16 is for GPUs"):
            make_job(precision=TrainingPrecision.fp16)

    def test_only_a_live_teacher_computes_with_16_bits(self, student: StudentConfig) -> None:
        """What is computed once serves every run, and has 32."""
        for views, augment, same in ((0, (), True), (0, ("shift",), False), (1, ("shift",), True)):
            config = replace(change(student, augment=augment), teachers=TeacherConfig(views=views))
            fp32, bf16 = (
                resolve_student(change(config, precision=precision)).compute_outputs()
                for precision in (TrainingPrecision.fp32, TrainingPrecision.bf16)
            )
            batch = next(resolve_student(config).start().batches.epoch())
            ours, theirs = fp32.logits(None)(batch), bf16.logits(None)(batch)
            assert theirs.dtype == torch.float32
            assert torch.equal(ours, theirs) is same


class TestLabelSmoothing:
    def test_spreads_each_label_where_labels_alone_are_learnt(self, make_job: MakeJob) -> None:
        training = make_job(label_smoothing=0.2).start()
        batch = next(training.batches.epoch())
        step = training.objective(training.network, batch)
        torch.testing.assert_close(step.loss, F.cross_entropy(step.logits, batch.labels, label_smoothing=0.2))

    def test_spreads_the_labels_beside_a_teacher_whether_all_images_have_one_or_not(
        self, student: StudentConfig
    ) -> None:
        training = resolve_student(change(student, label_smoothing=0.2)).start()
        plain = resolve_student(student).start()
        batch = next(training.batches.epoch())
        for labels in (batch.labels, torch.where(batch.labels < 5, NO_LABEL, batch.labels)):
            some = replace(batch, labels=labels)
            for each in (training, plain):
                each.objective.all_labelled = labels is batch.labels  # type: ignore[attr-defined]
            step, usual = training.objective(training.network, some), plain.objective(training.network, some)
            known = labels != NO_LABEL
            expected = F.cross_entropy(step.logits[known], labels[known], label_smoothing=0.2)
            torch.testing.assert_close(step.terms["labels"], 0.1 * expected)
            torch.testing.assert_close(step.terms["teacher"], usual.terms["teacher"])


class TestAverage:
    def test_is_what_is_tested_and_saved(self, student: StudentConfig, run: RunConfig) -> None:
        result = distill(change(student, ema=0.95, epochs=2))
        (model,) = evaluate([Path(result.checkpoint)], student.data, run).models
        assert model.error_count == result.error_count == result.history[-1].error_count
        training = resolve_student(change(student, ema=0.95, epochs=2)).start()
        for _ in range(2):
            training.run_epoch()
        saved = load_checkpoint(Path(result.checkpoint), torch.device("cpu")).classifier.state_dict()
        assert all(torch.equal(tensor, saved[name]) for name, tensor in training.result.state_dict().items())
        assert any(not torch.equal(tensor, saved[name]) for name, tensor in training.network.state_dict().items())


class TestChannelsLast:
    @pytest.mark.parametrize(
        ("spec", "asked", "expected"),
        [
            ("resnet-8", None, True),
            ("resnet-8", True, True),
            ("resnet-8", False, False),
            ("cnn-4", None, False),
            ("cnn-4", True, True),
        ],
    )
    def test_are_as_asked_for_else_where_they_are_known_to_gain(
        self, spec: str, asked: bool | None, expected: bool, data: DataConfig, run: RunConfig
    ) -> None:
        job = resolve_teacher(parse_spec(spec), data, TrainingConfig(channels_last=asked), run)
        network = job.start().network
        assert isinstance(network, Classifier)
        assert network.channels_last is expected
        if spec == "resnet-8":
            weight = network.network.get_parameter("layer1.0.conv1.weight")
            assert weight.is_contiguous(memory_format=torch.channels_last) is expected


class TestCompile:
    @pytest.mark.parametrize("method", ["fitnet", "crd"])
    def test_is_refused_for_methods_that_read_layers(self, student: StudentConfig, method: str) -> None:
        config = replace(change(student, compile=True), method=MethodConfig(method))
        with pytest.raises(ConfigError, match=f"{method} reads layers, which --compile takes apart: leave it out"):
            resolve_student(config)


class Threads(Callback):
    """Writes down how many threads work."""

    def __init__(self) -> None:
        self.seen: set[int] = set()

    def on_step_end(self, training: Training) -> None:
        self.seen.add(torch.get_num_threads())

    def on_epoch_end(self, training: Training, epoch: object) -> None:
        self.seen.add(torch.get_num_threads())


class TestThreads:
    @pytest.mark.parametrize("threads", [1, 2, 3])
    def test_work_in_the_whole_run_and_are_named(self, student: StudentConfig, threads: int, two_threads: None) -> None:
        watch = Threads()
        result = distill(change(student, threads=threads), callbacks=[watch])
        assert watch.seen == {threads}
        assert result.device_name == f"cpu ({threads} thread{'s' if threads > 1 else ''})"
        assert torch.get_num_threads() == 2

    @pytest.mark.parametrize("ensemble", [1, 2])
    def test_train_teachers_too(self, data: DataConfig, run: RunConfig, ensemble: int, two_threads: None) -> None:
        training = TrainingConfig(epochs=1, threads=3)
        result = train_teacher(parse_spec("mlp-4"), data, training, run, ensemble=ensemble)
        assert result.device_name == "cpu (3 threads)"
        assert torch.get_num_threads() == 2

    @pytest.mark.parametrize(("asked", "expected"), [(None, 1), (3, 3)])
    def test_are_those_of_a_worker(self, asked: int | None, expected: int, two_threads: None) -> None:
        with threads_of_worker(StudentConfig(parse_spec("mlp-8"), training=TrainingConfig(threads=asked))):
            assert torch.get_num_threads() == expected
        assert torch.get_num_threads() == 2

    @pytest.mark.parametrize(("threads", "workers"), [(None, 8), (2, 4), (3, 2), (9, 1)])
    def test_share_the_cores_with_other_runs(
        self, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch, threads: int | None, workers: int
    ) -> None:
        monkeypatch.setattr("kd_cli.commands.many_runs.usable_cores", lambda: set(range(8)))
        assert count_workers(None, make_job(threads=threads)) == workers
        assert count_workers(5, make_job(threads=threads)) == 5


BAD: list[tuple[Sequence[str], str]] = [
    (["--precision", "fp8"], "unknown precision 'fp8'"),
    (["--optimiser", "adm"], "did you mean adam?"),
    (["--accumulate", "0"], "--accumulate 0: use a number from 1"),
    (["--ema", "1"], "--ema 1.0: use a number above 0, at most 0.999999"),
    (["--label-smoothing", "1"], "--label-smoothing 1.0: use a number from 0 to 0.9"),
    (["--weight-decay", "-1"], "--weight-decay -1.0: use a number from 0 to 10"),
    (["--threads", "0"], "--threads 0: use a number from 1"),
]


@pytest.mark.parametrize(
    ("arguments", "named"), BAD, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_what_an_option_does_not_take_is_one_line_and_exit_code_2(
    kd: CommandLine, arguments: Sequence[str], named: str
) -> None:
    code, stdout, stderr = kd("train-teacher", *arguments)
    assert (code, stdout, stderr.count("\n")) == (2, "", 1)
    assert named in stderr
