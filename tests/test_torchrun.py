"""Two processes that torchrun starts, as a user does: what they write and say, and what follows when one dies."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from kd_cli.training.resume import SUFFIX
from tests.conftest import ROOT, hear_interrupts

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name != "posix", reason="sends Unix signals")]

JOB = ("train-teacher", "--dataset", "digits", "--arch", "cnn-8", "--device", "cpu", "--json")
CHECKPOINT = Path("runs/models/digits/teacher.safetensors")
STATE = CHECKPOINT.with_name(f"{CHECKPOINT.name}{SUFFIX}")

RUN_SECONDS = 300
"""What a run may take on a busy machine."""

END_SECONDS = 60
"""What it may take to end once one of its processes has."""


class Torchrun:
    """A command that torchrun starts as two processes, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def start(self, *arguments: str, options: Sequence[str] = (), program: Sequence[str] = ("-m", "kd_cli")) -> None:
        """Start the processes; they are ended by `wait`."""
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *options]
        self.process = subprocess.Popen(
            [*command, *program, *arguments],
            cwd=self.folder,
            env=os.environ
            | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "KD_DATA_DIR": str(self.folder / "data")},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=hear_interrupts,
        )

    def wait(self, seconds: float = RUN_SECONDS) -> tuple[int, str, list[str]]:
        """Exit code of torchrun, stdout, and the lines that kd wrote to stderr."""
        stdout, stderr = self.process.communicate(timeout=seconds)
        assert "kd_cli/" not in stderr, stderr  # a traceback of ours
        return self.process.returncode, stdout, [line for line in stderr.splitlines() if line.startswith("kd: ")]

    def run(self, *arguments: str, options: Sequence[str] = ()) -> tuple[int, str, list[str]]:
        """Both."""
        self.start(*arguments, options=options)
        return self.wait()

    def workers(self) -> list[int]:
        """The processes that torchrun started, by rank."""
        listed = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(self.process.pid)], stdout=subprocess.PIPE, text=True, check=False
        )
        return sorted(map(int, listed.stdout.split()))

    def wait_for_state(self) -> None:
        """Until the first epoch is kept."""
        give_up = time.monotonic() + RUN_SECONDS
        while not (self.folder / STATE).exists():
            assert time.monotonic() < give_up
            assert self.process.poll() is None
            time.sleep(0.02)


@pytest.fixture
def torchrun(tmp_path: Path) -> Iterator[Torchrun]:
    made = Torchrun(tmp_path)
    yield made
    if made.process.poll() is None:
        os.killpg(made.process.pid, signal.SIGKILL)


def run_alone(folder: Path, *arguments: str) -> str:
    return subprocess.run(
        [sys.executable, "-m", "kd_cli", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "KD_DATA_DIR": str(folder / "data")},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout


def test_one_process_writes_and_prints_and_the_result_is_that_of_one(torchrun: Torchrun) -> None:
    code, stdout, lines = torchrun.run(*JOB, "--epochs", "3")
    assert code == 0
    together = json.loads(stdout)
    assert together["options"]["processes"] == 2
    assert (torchrun.folder / CHECKPOINT).exists()
    assert not (torchrun.folder / STATE).exists()
    assert len(lines) == 1
    assert "several processes are slower than one for a network this small" in lines[0]
    alone = json.loads(run_alone(torchrun.folder, *JOB, "--epochs", "3", "--output", "alone.safetensors"))
    assert abs(alone["accuracy"] - together["accuracy"]) <= 0.01
    assert alone["history"][0]["loss"] == pytest.approx(together["history"][0]["loss"], rel=1e-3)


DIFFERENT = """
import os, sys
from kd_cli.cli import run
sys.argv += ["--epochs", os.environ["RANK"] + "1"]
run()
"""


def test_processes_with_different_options_are_refused_in_one_line(torchrun: Torchrun) -> None:
    (torchrun.folder / "different.py").write_text(DIFFERENT)
    torchrun.start(*JOB, program=["different.py"])
    code, stdout, lines = torchrun.wait()
    assert (code, stdout) == (1, "")
    assert len(lines) == 1
    assert "the 2 processes differ in epochs (1 and 11)" in lines[0]


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        ((*JOB, "--batch-size", "1"), "--batch-size 1 is of all processes together, and there are 2"),
        ((*JOB, "--epochs", "none"), "--epochs none: use a whole number"),
    ],
    ids=["batch", "usage"],
)
def test_bad_input_is_answered_by_one_process(torchrun: Torchrun, arguments: tuple[str, ...], hint: str) -> None:
    code, stdout, lines = torchrun.run(*arguments)
    assert (code, stdout) == (1, "")
    assert len(lines) == 1
    assert hint in lines[0]


@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_is_killed_ends_the_run_in_one_line_and_resume_goes_on(torchrun: Torchrun, rank: int) -> None:
    job = (*JOB, "--epochs", "20")
    torchrun.start(*job)
    torchrun.wait_for_state()
    os.kill(torchrun.workers()[rank], signal.SIGKILL)
    code, stdout, lines = torchrun.wait(END_SECONDS)
    assert (code, stdout) == (1, "")
    *_, last = lines
    assert len(lines) == 2  # the other one is the notice about small networks
    assert "--resume" in last
    resumed = json.loads(run_alone(torchrun.folder, *job, "--resume"))
    assert len(resumed["history"]) == 20
    assert resumed["accuracy"] > 0.9


def test_torchruns_restarts_go_on_by_themselves(torchrun: Torchrun) -> None:
    torchrun.start(*JOB, "--epochs", "20", options=["--max-restarts", "1"])
    torchrun.wait_for_state()
    os.kill(torchrun.workers()[1], signal.SIGKILL)
    code, stdout, lines = torchrun.wait()
    assert code == 0
    assert len(json.loads(stdout)["history"]) == 20
    assert any("torchrun starts all of them again" in line or "stopped; " in line for line in lines)
    assert not any("starting anew" in line for line in lines)


def test_ctrl_c_ends_both_in_one_line_and_two_processes_go_on(torchrun: Torchrun) -> None:
    job = (*JOB, "--epochs", "20")
    torchrun.start(*job)
    torchrun.wait_for_state()
    os.killpg(torchrun.process.pid, signal.SIGINT)
    code, stdout, lines = torchrun.wait(END_SECONDS)
    assert (code, stdout) == (1, "")
    assert len(lines) == 2
    assert "of 20 epochs: repeat the command with --resume" in lines[1]
    code, stdout, _ = torchrun.run(*job, "--resume")
    assert code == 0
    assert len(json.loads(stdout)["history"]) == 20
