"""Training runs that visitors start."""

import errno
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from kd_cli.app import run as run_module
from kd_cli.app.events import Event, Trained
from kd_cli.app.limits import MAX_OWN_RUNS, MAX_RUNS, MAX_STUDENTS
from kd_cli.app.run import Run, Runs
from kd_cli.app.worker import Work
from kd_cli.commands.job import StudentConfig
from kd_cli.config import DataConfig, KdError, RunConfig, TrainingConfig
from kd_cli.data.dataset import DataInfo, Dataset
from kd_cli.distillation.methods import MethodConfig
from kd_cli.networks.checkpoint import load_checkpoint
from kd_cli.networks.spec import parse_spec
from tests.report.results import training_result

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
def start(tmp_path: Path, tiny: Dataset) -> Iterator[Callable[..., Run]]:
    """Start a run; none goes on after the test."""
    started: list[Run] = []

    def begin(config: StudentConfig, seconds: float = 600.0) -> Run:
        run = Run("test", config, tiny.info, tmp_path / "student.safetensors", "visitor", seconds)
        started.append(run)
        threading.Thread(target=run.carry_out, daemon=True).start()
        return run

    yield begin
    for run in started:
        run.cancel()
        run.wait(60)


Start = Callable[..., Run]


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
def test_a_cancelled_run_leaves_no_checkpoint(student: Student, start: Start, tmp_path: Path) -> None:
    run = start(student(epochs=ENDLESS))
    wait_until(lambda: bool(run.tests))
    run.cancel()
    run.wait(60)
    assert run.result is None
    assert run.error is None  # it is what the visitor wanted
    assert list(tmp_path.glob("*student*")) == []


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


def test_a_run_that_exceeds_its_time_is_ended_with_a_line(student: Student, start: Start) -> None:
    run = start(student(epochs=ENDLESS), seconds=1.0)
    run.wait(60)
    assert run.result is None
    assert run.error == "ended after 1 min, the longest that it may take; nothing was kept"


class FakeProcess:
    """A worker that does nothing until it is ended or finished."""

    def __init__(self, work: Work, hear: Callable[[Event], None]) -> None:
        self.hear = hear
        self.over = threading.Event()

    @property
    def running(self) -> bool:
        return not self.over.is_set()

    def wait(self, seconds: float) -> None:
        self.over.wait(seconds)

    def stop(self) -> None:
        self.finish()

    def kill(self) -> None:
        self.over.set()

    def finish(self) -> None:
        self.hear(Trained(training_result()))
        self.over.set()


class Queue:
    """The runs of a server with fake workers, and its visitors."""

    def __init__(self, student: Student, data: DataInfo) -> None:
        self.student, self.data = student, data
        self.processes: list[FakeProcess] = []
        self.gone: set[str] = set()
        self.broken: OSError | None = None
        self.runs = Runs(self._launch, lambda visitor: visitor not in self.gone)  # type: ignore[arg-type]

    def _launch(self, work: Work, hear: Callable[[Event], None]) -> FakeProcess:
        if self.broken:
            raise self.broken
        self.processes.append(FakeProcess(work, hear))
        return self.processes[-1]

    def add(self, owner: str) -> Run:
        return self.runs.add("test", self.student(), self.data, owner)

    def finish(self, run: Run) -> None:
        wait_until(lambda: run.running)
        self.processes[-1].finish()
        run.wait(60)


@pytest.fixture
def queue(student: Student, tiny: Dataset) -> Iterator[Queue]:
    queue = Queue(student, tiny.info)
    yield queue
    queue.runs.close()


def test_runs_wait_for_their_turn_and_none_is_lost(queue: Queue) -> None:
    first, second, third = (queue.add(visitor) for visitor in ("a", "b", "c"))
    wait_until(lambda: first.running)
    assert queue.runs.unfinished() == [first, second, third]
    assert not second.running
    queue.finish(first)
    queue.finish(second)
    queue.finish(third)
    assert [run.result is not None for run in (first, second, third)] == [True] * 3
    assert queue.runs.unfinished() == []
    assert queue.runs.students() == [third, second, first]


def test_a_run_that_waits_can_be_taken_out(queue: Queue) -> None:
    first, second, third = (queue.add(visitor) for visitor in ("a", "b", "c"))
    second.cancel()
    assert queue.runs.unfinished() == [first, third]
    queue.finish(first)
    queue.finish(third)
    assert len(queue.processes) == 2
    assert queue.runs.latest_of("b") is second


def test_one_click_ends_a_run_whether_it_waits_or_goes_on(queue: Queue) -> None:
    first, second = (queue.add(visitor) for visitor in ("a", "b"))
    wait_until(lambda: first.running)
    second.end()
    assert second.cancelled
    first.end()
    first.wait(60)
    assert (first.stopping, first.cancelled) == (True, False)
    assert first.result is not None


def test_a_waiting_run_whose_visitor_has_left_is_passed_over(queue: Queue) -> None:
    first, second, third = (queue.add(visitor) for visitor in ("a", "b", "c"))
    wait_until(lambda: first.running)
    queue.gone = {"a", "b"}
    queue.finish(first)  # it had begun
    queue.finish(third)
    assert second.ended
    assert second.result is None


def test_a_run_whose_visitor_has_left_stops_after_its_epoch_once_others_wait(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "DISCONNECTED_SECONDS", 0)
    monkeypatch.setattr(run_module, "LOOK_SECONDS", 0.05)
    left = queue.add("a")
    wait_until(lambda: left.running)
    queue.gone = {"a"}
    time.sleep(3 * run_module.LOOK_SECONDS)
    assert not left.stopping  # it is in nobody's way
    waiting = queue.add("b")
    wait_until(lambda: waiting.running)
    assert left.stopping
    assert left.result is not None


def test_a_run_that_cannot_start_fails_and_the_next_has_its_turn(queue: Queue) -> None:
    queue.broken = OSError(errno.ENOMEM, "Cannot allocate memory")
    first = queue.add("a")
    first.wait(60)
    queue.broken = None
    assert first.error == "it could not be started: Cannot allocate memory; try again later"
    queue.finish(queue.add("a"))


def test_a_visitor_has_few_runs_in_the_queue(queue: Queue) -> None:
    for _ in range(MAX_OWN_RUNS):
        queue.add("a")
    with pytest.raises(KdError, match="of yours are not done yet"):
        queue.add("a")
    queue.add("b")


def test_the_queue_is_bounded(queue: Queue) -> None:
    for number in range(MAX_RUNS):
        queue.add(str(number))
    with pytest.raises(KdError, match="the most that this page takes"):
        queue.add("one more")


def test_the_latest_students_are_kept(queue: Queue) -> None:
    runs = [queue.add(str(number)) for number in range(MAX_STUDENTS + 2)]
    for run in runs:
        queue.finish(run)
    wait_until(lambda: len(queue.runs.students()) == MAX_STUDENTS)
    assert queue.runs.students()[0] is runs[-1]


def test_what_came_of_a_run_is_told_however_many_others_were_given_up_since(queue: Queue) -> None:
    first, early = queue.add("a"), queue.add("early")
    others = [queue.add(f"visitor {number}") for number in range(MAX_STUDENTS + 2)]
    last = queue.add("z")
    for run in (*others, early):
        run.cancel()
    queue.finish(first)
    queue.finish(last)  # what is forgotten after the first one is by now
    assert queue.runs.latest_of("early") is early
