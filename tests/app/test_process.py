"""Workers of the page as the server sees them, and what they send."""

import base64
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from kd_cli.app.events import Evaluated, Event, Failed, Trained
from kd_cli.app.process import COMMAND, Process, carry_out
from kd_cli.app.worker import Work
from kd_cli.config import KdError
from tests.app import work
from tests.conftest import ROOT
from tests.report.results import training_result

pytestmark = pytest.mark.slow

SECONDS = 60.0


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker finds the work of these tests."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def python(script: str) -> list[str]:
    """A command in place of the worker's."""
    return [sys.executable, "-c", script]


def hear_all(process: Process, heard: list[Event]) -> list[Event]:
    process.wait(SECONDS)
    assert not process.running
    return heard


def wait_until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_lines_that_are_no_events_are_ignored() -> None:
    script = r"""
import sys
sys.stdout.buffer.write(b'noise\n{\n\xff\n{"event": "Evaluated", "step": 1, "accuracy": 0.5}\nnoise\n')
sys.stdout.buffer.write(b'{"event": "Failed", "message": "done"}\nnoise\n')
"""
    heard: list[Event] = []
    process = Process(work.succeed, heard.append, python(script))
    assert hear_all(process, heard) == [Evaluated(1, 0.5), Failed("done")]


def test_a_worker_whose_work_prints_is_heard() -> None:
    heard: list[Event] = []
    process = Process(work.print_meanwhile, heard.append)
    assert hear_all(process, heard) == [Evaluated(1, 0.5), Trained(training_result())]


def test_the_outcome_of_work_is_handed_back() -> None:
    assert carry_out(work.succeed, SECONDS) == Trained(training_result())


def test_a_worker_that_dies_has_failed() -> None:
    heard: list[Event] = []
    process = Process(work.succeed, heard.append, python("pass"))
    assert hear_all(process, heard) == [Failed("ended before it was done; nothing was kept")]


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (work.fail, "no such teacher"),
        pytest.param(work.run_out_of_memory, "memory", marks=pytest.mark.slow),
        pytest.param(work.die, "ended before", marks=pytest.mark.slow),
    ],
)
def test_work_that_comes_to_nothing_says_why(function: Work, message: str) -> None:
    with pytest.raises(KdError, match=message):
        carry_out(function, SECONDS)


def test_a_worker_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    script = f"import os, time; open({str(file)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    with pytest.raises(KdError, match="no result after 2 seconds"):
        carry_out(work.succeed, 2, python(script))
    pid = int(file.read_text())
    wait_until(lambda: not is_alive(pid))


def test_a_worker_can_be_asked_to_stop() -> None:
    heard: list[Event] = []
    process = Process(work.wait_for_stop, heard.append)
    process.stop()
    assert hear_all(process, heard) == [Failed("asked to stop")]


@pytest.mark.slow
def test_a_worker_ends_with_its_server() -> None:
    with subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as worker:
        assert worker.stdin is not None
        worker.stdin.write(base64.b64encode(pickle.dumps(work.wait_for_stop)) + b"\n")
        worker.stdin.close()
        assert worker.wait(SECONDS) == 130
