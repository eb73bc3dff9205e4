"""A run that is stopped, in whatever way, and resumed ends with the very bytes of one that was never stopped."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch

from kd_cli.checkpoint import load_checkpoint
from kd_cli.train import Bar, Epoch, Training
from tests.conftest import CommandLine, hear_interrupts

TEACHER = ("train-teacher", "--dataset", "digits", "--arch", "cnn-4", "--epochs", "4")
STUDENT = ("distill", "--dataset", "digits", "--student", "mlp-16", "--epochs", "4")


@pytest.fixture
def stop_in_epoch(monkeypatch: pytest.MonkeyPatch) -> Callable[[int | None], None]:
    """Let Ctrl-C come in the middle of an epoch of every run from now on; None: no more of that."""
    run_epoch = Training.run_epoch
    stop: int | None = None

    def stopped(training: Training, bar: Bar) -> Epoch:
        if training.epochs_done + 1 == stop:
            monkeypatch.setattr(bar, "update", Mock(side_effect=[None] * 5 + [KeyboardInterrupt]))
        return run_epoch(training, bar)

    def set_stop(epoch: int | None) -> None:
        nonlocal stop
        stop = epoch

    monkeypatch.setattr(Training, "run_epoch", stopped)
    return set_stop


@pytest.mark.parametrize("epoch", [1, 2, 4])
@pytest.mark.parametrize(
    "command",
    [
        TEACHER,
        (*TEACHER, "--augment"),
        (*TEACHER, "--schedule", "constant"),
        (*TEACHER, "--schedule", "cosine"),
        (*TEACHER, "--ensemble", "2"),
        STUDENT,
        (*STUDENT, "--augment"),
        (*STUDENT, "--method", "fitnet"),
        (*STUDENT, "--method", "crd"),
    ],
    ids=" ".join,
)
def test_resumed_run_ends_with_the_weights_of_an_unbroken_one(
    kd: CommandLine, stop_in_epoch: Callable[[int | None], None], command: tuple[str, ...], epoch: int
) -> None:
    kd(*command, "--output", "unbroken.safetensors")
    stop_in_epoch(epoch)
    assert kd(*command, "--output", "broken.safetensors")[0] == 130
    stop_in_epoch(None)
    assert kd(*command, "--output", "broken.safetensors", "--resume")[0] == 0
    assert Path("broken.safetensors").read_bytes() == Path("unbroken.safetensors").read_bytes()


def test_resumed_run_reports_all_its_epochs(kd: CommandLine, stop_in_epoch: Callable[[int | None], None]) -> None:
    stop_in_epoch(3)
    kd(*TEACHER)
    stop_in_epoch(None)
    code, stdout, _ = kd(*TEACHER, "--resume")
    assert code == 0
    assert [f"│     {number} │" in stdout for number in range(1, 6)] == [True] * 4 + [False]


def test_interrupt_says_in_one_line_what_is_kept_and_how_to_go_on(
    kd: CommandLine, stop_in_epoch: Callable[[int | None], None]
) -> None:
    stop_in_epoch(3)
    code, stdout, stderr = kd(*TEACHER)
    assert (code, stdout, stderr.count("\n")) == (130, "", 1)
    assert "teacher.resume keeps 2 of 4 epochs" in stderr
    assert "--resume" in stderr


def test_interrupted_run_leaves_the_earlier_checkpoint(
    kd: CommandLine, stop_in_epoch: Callable[[int | None], None]
) -> None:
    kd(*TEACHER)
    path = Path("models/digits/teacher.safetensors")
    before = path.read_bytes()
    stop_in_epoch(2)
    kd(*TEACHER, "--seed", "1")
    assert path.read_bytes() == before


def test_completed_run_leaves_no_state_behind(kd: CommandLine) -> None:
    kd(*TEACHER, "--ensemble", "2")
    assert sorted(path.name for path in Path("models/digits").iterdir()) == [
        "teacher-2.safetensors",
        "teacher.safetensors",
    ]


def test_resuming_where_nothing_was_stopped_is_an_ordinary_run(kd: CommandLine) -> None:
    assert kd(*TEACHER, "--resume")[0] == 0


@pytest.mark.parametrize(
    "other",
    [
        (*TEACHER[:-1], "5"),
        (*TEACHER, "--seed", "1"),
        (*TEACHER, "--batch-size", "32"),
        (*TEACHER, "--lr", "0.01"),
        (*TEACHER, "--augment"),
        (*TEACHER, "--arch", "cnn-5"),
    ],
    ids=" ".join,
)
def test_state_of_another_command_line_is_refused_and_kept(
    kd: CommandLine, stop_in_epoch: Callable[[int | None], None], other: tuple[str, ...]
) -> None:
    stop_in_epoch(3)
    kd(*TEACHER)
    stop_in_epoch(None)
    state = Path("models/digits/teacher.resume").read_bytes()
    code, _, stderr = kd(*other, "--resume")
    assert (code, stderr.count("\n")) == (1, 1)
    assert "another command line" in stderr
    assert Path("models/digits/teacher.resume").read_bytes() == state


def test_state_of_a_student_of_another_teacher_is_refused(
    kd: CommandLine, stop_in_epoch: Callable[[int | None], None]
) -> None:
    stop_in_epoch(3)
    kd(*STUDENT)
    stop_in_epoch(None)
    kd(*TEACHER)  # the student's teacher is another one from now on
    code, _, stderr = kd(*STUDENT, "--resume")
    assert code == 1
    assert "another command line" in stderr


@pytest.mark.parametrize("damage", ["truncated", "junk", "empty", "another file"])
def test_damaged_state_is_refused_in_one_line(
    kd: CommandLine, stop_in_epoch: Callable[[int | None], None], damage: str
) -> None:
    stop_in_epoch(3)
    kd(*TEACHER)
    stop_in_epoch(None)
    state = Path("models/digits/teacher.resume")
    content = state.read_bytes()
    if damage == "another file":
        torch.save([1, 2, 3], state)
    else:
        state.write_bytes({"truncated": content[:-100], "junk": b"junk" * 100, "empty": b""}[damage])
    code, _, stderr = kd(*TEACHER, "--resume")
    assert (code, stderr.count("\n")) == (1, 1)
    assert "start again without --resume" in stderr


@pytest.mark.parametrize("lr", ["1e20", "1e38"])
def test_loss_that_is_no_number_stops_the_run_and_names_epoch_and_step(kd: CommandLine, lr: str) -> None:
    code, _, stderr = kd(*TEACHER, "--lr", lr)
    assert (code, stderr.count("\n")) == (1, 1)
    assert "in epoch 1, step " in stderr
    assert "--lr" in stderr
    assert not Path("models/digits/teacher.safetensors").exists()


def program(folder: Path, *options: str) -> subprocess.Popen[bytes]:
    environment = os.environ | {"KD_DATA_DIR": str(folder / "data"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "kd_cli", *TEACHER[:-1], "30", *options]
    return subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        preexec_fn=hear_interrupts,
    )


@pytest.mark.skipif(os.name != "posix", reason="sends Unix signals")
@pytest.mark.parametrize("kills", [2, pytest.param(40, marks=pytest.mark.slow)])
def test_killed_at_any_moment_and_resumed_ends_with_the_bytes_of_the_unbroken_run(tmp_path: Path, kills: int) -> None:
    assert program(tmp_path).wait() == 0  # prepares the data
    start = time.monotonic()
    assert program(tmp_path, "--output", "unbroken.safetensors").wait() == 0
    whole = time.monotonic() - start
    moments = random.Random(0)
    for number in range(kills):
        path = tmp_path / f"{number}.safetensors"
        with program(tmp_path, "--output", path.name) as run:
            time.sleep(moments.uniform(0, whole))
            run.kill()
        if path.exists():
            load_checkpoint(path, torch.device("cpu"))  # whole, or this raises
        resumed = program(tmp_path, "--output", path.name, "--resume")
        _, stderr = resumed.communicate()
        assert resumed.returncode == 0, stderr
        assert path.read_bytes() == (tmp_path / "unbroken.safetensors").read_bytes()


@pytest.mark.skipif(os.name != "posix", reason="sends Unix signals")
@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_a_run_with_one_line_and_exit_code_130(tmp_path: Path, which: signal.Signals) -> None:
    with program(tmp_path, "--output", "mine.safetensors", "--epochs", "100000") as run:
        while not (tmp_path / "mine.resume").exists():
            time.sleep(0.05)
        run.send_signal(which)
        try:
            _, stderr = run.communicate(timeout=60)
        finally:
            run.kill()
    assert (run.returncode, stderr.count(b"\n")) == (130, 1)
    assert b"--resume" in stderr


@pytest.mark.skipif(os.name != "posix", reason="starts four processes at once")
def test_four_processes_that_write_one_checkpoint_leave_one_of_theirs_whole(tmp_path: Path) -> None:
    assert program(tmp_path).wait() == 0  # prepares the data
    runs = [
        program(tmp_path, "--output", "shared.safetensors", "--epochs", "3", "--seed", str(seed)) for seed in range(4)
    ]
    for run in runs:
        run.communicate()
    assert load_checkpoint(tmp_path / "shared.safetensors", torch.device("cpu")).metadata.seed in range(4)
    assert [path.name for path in tmp_path.iterdir() if path.suffix in (".tmp", ".resume")] == []


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="sends Unix signals")
def test_comparison_killed_at_any_moment_goes_on_to_the_same_result(tmp_path: Path) -> None:
    train_teacher = [sys.executable, "-m", "kd_cli", *TEACHER]
    subprocess.run(train_teacher, cwd=tmp_path, check=True, stdout=subprocess.DEVNULL)
    options = ["--dataset", "digits", "--students", "mlp-8,mlp-16", "--seeds", "3", "--epochs", "20", "--json"]

    def compare(results: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "kd_cli", "compare", *options, "--results-dir", results]
        return subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def accuracies(out: bytes) -> list[list[float]]:
        return [[run["accuracy"] for run in cell["runs"]] for cell in json.loads(out)["cells"]]

    start = time.monotonic()
    expected = accuracies(compare("unbroken").communicate()[0])
    whole = time.monotonic() - start
    moments = random.Random(0)
    for number in range(3):
        with compare(str(number)) as run:
            time.sleep(moments.uniform(0, whole))
            run.kill()
            run.communicate()  # its processes end with it, or this would wait for them
        out, stderr = compare(str(number)).communicate()
        assert accuracies(out) == expected, stderr


def test_what_is_kept_is_read_without_running_any_code(kd: CommandLine) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, ("sprung",)

    Path("models/digits").mkdir(parents=True)
    torch.save({"run": Trap()}, "models/digits/teacher.resume")
    assert kd(*TEACHER, "--resume")[0] == 1
    assert not Path("sprung").exists()
