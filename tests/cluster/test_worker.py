"""What a worker of Dask does with a task: a process carries it out, and ends when nobody wants the outcome."""

import os
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest

from kd_cli.cluster import worker
from kd_cli.cluster.worker import carry_out, pack, unpack
from kd_cli.training.processes import WorkerDiedError
from tests.training import tasks


class Thread(ThreadPoolExecutor):
    """In place of a process, which would take seconds to start."""

    def __init__(self) -> None:
        super().__init__(1)
        self.ended = False

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self.ended = True
        super().shutdown(wait=False)


class Dead(Executor):
    """A process that dies of every task."""

    def submit(self, fn, /, *args, **kwargs):  # type: ignore[no-untyped-def]
        future: Future[object] = Future()
        future.set_exception(BrokenExecutor())
        return future


Started = list[Thread]


@pytest.fixture(autouse=True)
def started(monkeypatch: pytest.MonkeyPatch) -> Iterator[Started]:
    """The processes that were started, in place of real ones."""
    made: Started = []

    def start(*_: object) -> Thread:
        made.append(Thread())
        return made[-1]

    monkeypatch.setattr(worker, "process_executor", start)
    monkeypatch.setattr(worker, "_watch_task", lambda: lambda: True)
    monkeypatch.setattr(worker, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(worker, "_idle", {})
    yield made
    for each in made:
        each.shutdown()


def double(number: int, command: str = "1") -> int:
    outcome: int = unpack(carry_out(pack(tasks.double, tasks.double, number), command, "."))
    return outcome


def test_the_task_is_adapted_and_carried_out() -> None:
    assert double(3) == 12


def test_a_command_keeps_its_process_from_one_task_to_the_next(started: Started) -> None:
    assert [double(number) for number in range(3)] == [0, 4, 8]
    assert len(started) == 1
    assert not started[0].ended


def test_another_command_has_its_own_and_ends_that_one(started: Started) -> None:
    double(1, "first")
    double(1, "second")
    assert [each.ended for each in started] == [True, False]


def test_it_is_carried_out_where_the_command_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path.parent)  # and back, afterwards
    packed = pack(list_folder, tasks.identity, None)
    assert unpack(carry_out(packed, "1", str(tmp_path))) == str(tmp_path)


def test_a_machine_without_that_folder_carries_it_out_all_the_same(tmp_path: Path) -> None:
    packed = pack(tasks.double, tasks.identity, 1)
    assert unpack(carry_out(packed, "1", str(tmp_path / "none"))) == 2


def list_folder(_: object) -> str:
    return os.getcwd()


def test_a_task_that_nobody_wants_any_more_is_ended(started: Started, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = iter([True, True, False])
    monkeypatch.setattr(worker, "_watch_task", lambda: lambda: next(wanted))
    with pytest.raises(WorkerDiedError, match="cancelled"):
        carry_out(pack(stay, tasks.identity, None), "1", ".")
    over.set()
    assert started[0].ended


over = Event()


def stay(_: object) -> None:
    over.wait(60)


def test_a_process_that_dies_is_reported_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "process_executor", lambda *_: Dead())
    with pytest.raises(WorkerDiedError, match="its process died"):
        double(1)


def test_a_process_that_failed_is_not_used_again(started: Started) -> None:
    with pytest.raises(ZeroDivisionError):
        carry_out(pack(tasks.fail, tasks.identity, 1), "1", ".")
    assert double(1) == 4
    assert [each.ended for each in started] == [True, False]
