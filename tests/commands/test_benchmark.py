"""Measuring costs: that each number belongs to its network. How fast they are is no test's business."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch

from kd_cli.commands.benchmark import benchmark
from kd_cli.commands.distill import distill
from kd_cli.commands.job import StudentConfig
from kd_cli.commands.results import BenchmarkResult, TrainingResult
from kd_cli.config import RunConfig

pytestmark = pytest.mark.usefixtures("short_measurements")


@pytest.fixture
def trained_student(student: StudentConfig) -> TrainingResult:
    return distill(student)


@pytest.fixture
def result(student: StudentConfig, run: RunConfig, trained_student: TrainingResult) -> BenchmarkResult:
    return benchmark((), student.data, run)


def test_each_row_is_of_its_network(
    result: BenchmarkResult, trained_teacher: TrainingResult, trained_student: TrainingResult
) -> None:
    for model, trained in zip(result.models, (trained_teacher, trained_student), strict=True):
        assert (model.role, model.checkpoint, model.parameters) == (
            trained.role,
            trained.checkpoint,
            trained.parameters,
        )
        assert model.size_bytes == Path(trained.checkpoint).stat().st_size
        assert model.accuracy == trained.accuracy
    assert [model.macs for model in result.models] == [784 * 16 + 16 * 10, 784 * 8 + 8 * 10]


def test_times_are_possible(result: BenchmarkResult) -> None:
    for model in result.models:
        latency = model.latency_ms
        assert 0 < latency.p25 <= latency.p50 <= latency.p75 <= latency.p95
        quartiles = model.throughput_quartiles_per_s
        assert 0 < quartiles.p25 <= model.throughput_per_s <= quartiles.p75
        assert model.test_set_seconds > 0


def test_the_speedup_is_the_teachers_median_over_the_students(result: BenchmarkResult) -> None:
    teacher, student = result.models
    assert result.student_speedup == pytest.approx(teacher.latency_ms.p50 / student.latency_ms.p50)


@pytest.mark.parametrize("role", ["teacher", "student"])
def test_one_network_alone_is_no_faster_than_another(
    student: StudentConfig, run: RunConfig, trained_student: TrainingResult, trained_teacher: TrainingResult, role: str
) -> None:
    trained = trained_teacher if role == "teacher" else trained_student
    result = benchmark([Path(trained.checkpoint)] * 2, replace(student.data, dataset="auto"), run)
    assert [model.role for model in result.models] == [role, role]
    assert result.student_speedup is None


def test_the_first_of_several_teachers_and_students_are_compared(
    student: StudentConfig, run: RunConfig, trained_student: TrainingResult, trained_teacher: TrainingResult
) -> None:
    teacher, other = Path(trained_teacher.checkpoint), Path(trained_student.checkpoint)
    result = benchmark([other, teacher, other, teacher], student.data, run)
    assert result.student_speedup == pytest.approx(result.models[1].latency_ms.p50 / result.models[0].latency_ms.p50)


def test_threads_are_those_of_throughput_and_of_latency(result: BenchmarkResult) -> None:
    assert (result.threads, result.latency_threads) == (torch.get_num_threads(), 1)


@pytest.mark.parametrize(("load", "expected"), [(lambda: (3.5, 2.0, 1.0), 3.5), (Mock(side_effect=OSError), None)])
def test_how_busy_the_machine_was_is_noted(
    student: StudentConfig,
    run: RunConfig,
    trained_student: TrainingResult,
    monkeypatch: pytest.MonkeyPatch,
    load: Callable[[], tuple[float, ...]],
    expected: float | None,
) -> None:
    monkeypatch.setattr(os, "getloadavg", load, raising=False)
    result = benchmark((), student.data, run)
    assert (result.load_average, result.cores) == (expected, os.cpu_count())
