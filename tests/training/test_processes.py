"""Tasks side by side: each has an outcome, whatever happens to its worker, and no worker is left behind."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest
from joblib.externals.loky import ProcessPoolExecutor

from kd_cli.training import processes
from kd_cli.training.processes import InProcess, WorkerDiedError, local_executor
from tests.conftest import ROOT, hear_interrupts
from tests.training import tasks


def quick_executor(workers: int) -> Executor:
    """As `local_executor`, but its workers do not import torch, which takes longer than all that they do here."""
    return InProcess() if workers == 1 else ProcessPoolExecutor(workers)


carry_out = partial(processes.carry_out, make_executor=quick_executor)
carry_out_rounds = partial(processes.carry_out_rounds, make_executor=quick_executor)

posix = pytest.mark.skipif(os.name != "posix", reason="Unix processes")


def wait_until(what: Callable[[], object], seconds: float = 60) -> None:
    """Wait for a condition to hold; fails where it does not in time."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.02)


def is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{process}/stat")
    return not state.exists() or state.read_text().rsplit(")", 1)[1].split()[0] != "Z"  # ended, and not yet collected


def workers_in(folder: Path) -> list[int]:
    return [int(path.name) for path in folder.iterdir()]


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_every_task_has_its_own_outcome(workers: int) -> None:
    outcomes = list(carry_out(range(7), tasks.double, workers))
    assert sorted(outcomes) == [(number, 2 * number) for number in range(7)]


def test_no_task_is_no_work() -> None:
    assert list(carry_out([], tasks.double, 2)) == []


def test_one_worker_is_this_process() -> None:
    assert isinstance(local_executor(1), InProcess)
    assert [process for _, process in carry_out(range(2), tasks.name_process, 1)] == [os.getpid()] * 2


def test_several_workers_are_other_processes() -> None:
    outcomes = carry_out(range(2), tasks.name_process, 2, make_executor=local_executor)
    assert os.getpid() not in {process for _, process in outcomes}


def test_workers_do_not_repeat_notices(capfd: pytest.CaptureFixture[str]) -> None:
    assert sorted(dict(carry_out(range(2), tasks.give_notice, 2, make_executor=local_executor))) == [0, 1]
    assert "notice" not in capfd.readouterr().err


def test_outcome_is_handed_over_before_the_next_task_is_done_in_this_process() -> None:
    done: list[int] = []
    outcomes = carry_out(range(3), done.append, 1)
    next(outcomes)
    assert done == [0]


def test_no_more_tasks_are_carried_out_at_a_time_than_there_are_workers() -> None:
    lock, running, most = threading.Lock(), 0, 0

    def work(number: int) -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.01)
        with lock:
            running -= 1
        return number

    outcomes = carry_out(range(9), work, 2, make_executor=lambda _: ThreadPoolExecutor(9))
    assert sorted(task for task, _ in outcomes) == list(range(9))
    assert most == 2


def test_worker_that_dies_costs_only_its_own_task() -> None:
    outcomes = dict(carry_out(range(6), tasks.die_at_three, 2))
    error = outcomes.pop(3)
    assert isinstance(error, WorkerDiedError)
    assert "twice" in str(error)
    assert outcomes == {number: 2 * number for number in (0, 1, 2, 4, 5)}


def test_deadly_tasks_alone_come_to_an_end() -> None:
    outcomes = dict(carry_out([1, 2], tasks.die_alone, 2))
    assert [type(outcomes[task]) for task in (1, 2)] == [WorkerDiedError, WorkerDiedError]


def test_task_whose_worker_died_once_is_carried_out_again(tmp_path: Path) -> None:
    assert list(carry_out([tmp_path / "marker"], tasks.die_once, 2)) == [(tmp_path / "marker", "done")]


@pytest.mark.parametrize("workers", [1, 2])
def test_error_that_nobody_foresaw_is_not_hidden(workers: int) -> None:
    with pytest.raises(ZeroDivisionError):
        list(carry_out(range(3), tasks.fail, workers))


@posix
def test_workers_end_when_nobody_asks_for_more_outcomes(tmp_path: Path) -> None:
    outcomes = carry_out([None, tmp_path, tmp_path], tasks.return_at_once_or_stay, 2)
    next(outcomes)
    wait_until(lambda: workers_in(tmp_path))
    outcomes.close()  # type: ignore[attr-defined]
    wait_until(lambda: not any(map(is_running, workers_in(tmp_path))))


@pytest.fixture
def strangers(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Processes of this one that `carry_out` did not start."""
    # A spawned process runs the main module, which the test of a page may have left in place of pytest's.
    monkeypatch.setitem(sys.modules, "__main__", ModuleType("__main__"))
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    sibling = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(600,))
    sibling.start()
    assert sibling.pid is not None
    yield [child.pid, sibling.pid]
    for each in (child, sibling):
        each.kill()
    child.wait()
    sibling.join()


@posix
def test_no_process_is_ended_that_others_started(strangers: list[int]) -> None:
    list(carry_out(range(6), tasks.die_at_three, 2))
    outcomes = carry_out(range(4), tasks.double_slowly, 2)
    next(outcomes)
    outcomes.close()  # type: ignore[attr-defined]
    time.sleep(0.2)
    assert all(map(is_running, strangers))


PROGRAM = """
import sys
from pathlib import Path
from kd_cli.training.processes import carry_out
from tests.training import tasks

if __name__ == "__main__":
    list(carry_out([Path(sys.argv[1])] * 3, tasks.write_name_and_stay, 2))
"""


@posix
@pytest.mark.parametrize(
    "which",
    [
        "SIGINT to all",
        "SIGKILL",
        pytest.param("SIGINT", marks=pytest.mark.slow),
        pytest.param("SIGTERM", marks=pytest.mark.slow),
    ],
)
def test_no_worker_outlives_the_process_that_started_it(tmp_path: Path, which: str) -> None:
    """A terminal sends Ctrl-C to the workers, too."""
    name, *to_all = which.split(" ", 1)
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, tmp_path],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=hear_interrupts,
    ) as parent:
        try:
            wait_until(lambda: len(workers_in(tmp_path)) == 2)
            send = os.killpg if to_all else os.kill
            send(parent.pid, signal.Signals[name])
            parent.communicate(timeout=60)
            wait_until(lambda: not any(map(is_running, workers_in(tmp_path))))
        finally:
            for process in (parent.pid, *workers_in(tmp_path)):
                if is_running(process):
                    os.kill(process, signal.SIGKILL)
    assert parent.returncode != 0


class Rounds:
    """Two rounds of tasks, of which the second follows from the outcomes of the first."""

    def __init__(self, first: list[int]) -> None:
        self.waiting = first
        self.outcomes: dict[int, object] = {}
        self.size = len(first)

    def next_tasks(self) -> list[int]:
        if len(self.outcomes) == self.size and not self.waiting:
            self.waiting = [100 + len(self.outcomes)]
            self.size = 0
        tasks, self.waiting = self.waiting, []
        return tasks

    def carry_out(self, workers: int) -> dict[int, object]:
        for task, outcome in carry_out_rounds(self.next_tasks, tasks.die_at_three, workers):
            self.outcomes[task] = outcome
        return self.outcomes


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_tasks_may_follow_from_the_outcomes_of_others(workers: int) -> None:
    assert Rounds([0, 1]).carry_out(workers) == {0: 0, 1: 2, 102: 204}


def test_a_worker_that_dies_does_not_end_the_rounds() -> None:
    outcomes = Rounds([3, 1]).carry_out(2)
    assert isinstance(outcomes.pop(3), WorkerDiedError)
    assert outcomes == {1: 2, 102: 204}
