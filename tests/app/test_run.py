"""Training runs that visitors start."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from kd_cli.app.limits import MAX_EPOCHS
from kd_cli.app.run import Run, Runs, require_modest
from kd_cli.commands.job import StudentConfig
from kd_cli.config import DataConfig, KdError, RunConfig, TrainingConfig
from kd_cli.data.dataset import Dataset
from kd_cli.distillation.methods import MethodConfig
from kd_cli.networks.checkpoint import load_checkpoint
from kd_cli.networks.spec import parse_spec

ENDLESS = 100_000
"""Epochs of a run that does not end by itself."""


@pytest.fixture
def student(shipped: Path, data_dir: Path) -> Callable[..., StudentConfig]:
    """Options of a small student: ``student(method="at", epochs=3)``."""

    def make(architecture: str = "mlp-16", method: str = "kd", **training: Any) -> StudentConfig:
        return StudentConfig(
            parse_spec(architecture),
            MethodConfig(method),
            data=DataConfig("digits", data_dir),
            training=TrainingConfig(**{"epochs": 2, "batch_size": 16} | training),
            run=RunConfig(shipped),
        )

    return make


Student = Callable[..., StudentConfig]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[StudentConfig], Run]]:
    """Start a run; none goes on after the test."""
    started: list[Run] = []

    def begin(config: StudentConfig) -> Run:
        started.append(Run("test", config, tmp_path / "student.safetensors", "visitor"))
        return started[-1]

    yield begin
    for run in started:
        run.kill()
        run.wait(60)


Start = Callable[[StudentConfig], Run]


def wait_until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_run_tells_how_it_goes_and_leaves_a_checkpoint(student: Student, start: Start) -> None:
    run = start(student())
    run.wait(120)
    assert run.error is None
    assert run.result is not None
    assert run.step == run.total_steps > 0
    assert [each.accuracy for each in run.tests] == [epoch.accuracy for epoch in run.result.history]
    assert len(run.progress) >= 2
    metadata = load_checkpoint(Path(run.result.checkpoint), torch.device("cpu")).metadata
    assert (metadata.method, metadata.accuracy) == ("kd", run.result.accuracy)


def test_a_stopped_run_keeps_what_was_learnt_in_whole_epochs(student: Student, start: Start) -> None:
    run = start(student(epochs=ENDLESS))
    wait_until(lambda: bool(run.tests))
    run.stop()
    run.wait(60)
    assert run.result is not None
    assert 1 <= run.result.epochs < ENDLESS
    metadata = load_checkpoint(Path(run.result.checkpoint), torch.device("cpu")).metadata
    assert metadata.options["stopped_after"] == run.result.epochs


@pytest.mark.slow
def test_a_killed_run_leaves_no_checkpoint(student: Student, start: Start, tmp_path: Path) -> None:
    run = start(student(epochs=ENDLESS))
    wait_until(lambda: bool(run.tests))
    run.kill()
    run.wait(60)
    assert run.result is None
    assert run.error
    assert not (tmp_path / "student.safetensors").exists()


@pytest.mark.slow
def test_a_run_that_cannot_work_says_why(student: Student, start: Start) -> None:
    run = start(student(method="at"))
    run.wait(60)
    assert run.error
    assert "spatial maps" in run.error


@pytest.mark.slow
def test_a_run_that_diverges_gets_advice_that_a_visitor_can_follow(student: Student, start: Start) -> None:
    run = start(student(lr=1e30))
    run.wait(60)
    assert run.error
    assert "smaller learning rate" in run.error
    assert "--" not in run.error


def test_only_one_run_goes_on_at_a_time(student: Student) -> None:
    runs = Runs()
    first = runs.start("first", student(epochs=ENDLESS), "one visitor")
    try:
        with pytest.raises(KdError, match="a run is going on"):
            runs.start("second", student(), "another visitor")
        assert runs.latest is first
    finally:
        first.kill()
        first.wait(60)
    assert runs.students() == {}


def test_a_run_within_the_bounds_is_accepted(tiny: Dataset, student: Student) -> None:
    require_modest(student("mlp-2048-1024", epochs=MAX_EPOCHS), tiny.info)


@pytest.mark.parametrize(
    ("architecture", "epochs", "bound"),
    [
        ("mlp-2048-2048", 1, "up to 5,000,000"),
        ("mlp-65536-65536-65536", 1, "up to 5,000,000"),
        ("mlp-16", MAX_EPOCHS + 1, f"up to {MAX_EPOCHS} epochs"),
    ],
)
def test_a_run_that_would_keep_the_server_busy_for_long_is_refused(
    tiny: Dataset, student: Student, architecture: str, epochs: int, bound: str
) -> None:
    with pytest.raises(KdError, match=bound):
        require_modest(student(architecture, epochs=epochs), tiny.info)
