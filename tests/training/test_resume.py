"""A run that is stopped, in whatever way, and resumed ends with the very bytes of one that was never stopped."""

import io
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from kd_cli.config import DataConfig
from kd_cli.data.prepared import load
from kd_cli.files import write_atomically
from kd_cli.networks.checkpoint import load_checkpoint
from kd_cli.training import resume
from kd_cli.training.loop import Callback, Epoch, Training
from kd_cli.training.resume import is_state
from tests.conftest import CommandLine, hear_interrupts

TEACHER = ("train-teacher", "--dataset", "digits", "--arch", "cnn-4", "--epochs", "4")
STUDENT = ("distill", "--dataset", "digits", "--student", "mlp-16", "--epochs", "4")
STATE = Path("runs/models/digits/teacher.safetensors.resume")

CPU = torch.device("cpu")

posix = pytest.mark.skipif(os.name != "posix", reason="sends Unix signals")

HappenIn = Callable[[int | None], None]
"""Let something happen in the middle of this epoch of every run from now on; None: no more of that."""


def make_happen(monkeypatch: pytest.MonkeyPatch, what: Callable[[Training], None]) -> HappenIn:
    run_epoch = Training.run_epoch
    when: int | None = None

    class Event(Callback):
        def on_step_end(self, training: Training) -> None:
            if training.step_in_epoch == 6:
                what(training)

    def eventful(training: Training, callbacks: Sequence[Callback] = ()) -> Epoch:
        event = [Event()] if training.epochs_done + 1 == when else []
        return run_epoch(training, [*callbacks, *event])

    def set_epoch(epoch: int | None) -> None:
        nonlocal when
        when = epoch

    monkeypatch.setattr(Training, "run_epoch", eventful)
    return set_epoch


@pytest.fixture
def stop_in_epoch(monkeypatch: pytest.MonkeyPatch) -> HappenIn:
    """Ctrl-C."""

    def interrupt(_: Training) -> None:
        raise KeyboardInterrupt

    return make_happen(monkeypatch, interrupt)


@pytest.fixture
def diverge_in_epoch(monkeypatch: pytest.MonkeyPatch) -> HappenIn:
    """A bias that is no number, so that the next loss is none."""

    def spoil(training: Training) -> None:
        *_, last = training.network.parameters()
        torch.nn.init.constant_(last, torch.nan)

    return make_happen(monkeypatch, spoil)


@pytest.mark.parametrize(
    ("command", "epoch"),
    [
        *((TEACHER, epoch) for epoch in (1, 2, 4)),
        ((*TEACHER, "--augment", "shift"), 3),
        ((*TEACHER, "--augment", "warp"), 3),
        ((*TEACHER, "--validation-fraction", "0.2", "--keep-best", "--schedule", "constant", "--lr", "0.05"), 4),
        ((*TEACHER, "--validation-fraction", "0.2", "--patience", "1", "--lr", "0.02", "--ensemble", "2"), 3),
        ((*TEACHER, "--schedule", "constant"), 3),
        ((*TEACHER, "--schedule", "cosine"), 3),
        ((*TEACHER, "--ensemble", "2"), 3),
        ((*TEACHER, "--optimiser", "sgd", "--lr", "0.02", "--accumulate", "2", "--ema", "0.9"), 3),
        ((*TEACHER, "--ema", "0.9", "--validation-fraction", "0.2", "--keep-best"), 4),
        ((*STUDENT, "--optimiser", "adamw", "--precision", "bf16", "--label-smoothing", "0.1", "--threads", "1"), 3),
        (STUDENT, 3),
        ((*STUDENT, "--augment", "shift"), 3),
        ((*STUDENT, "--augment", "warp"), 3),
        ((*STUDENT, "--augment", "warp", "--teacher-views", "2"), 3),
        ((*STUDENT, "--train-fraction", "0.6"), 3),
        ((*STUDENT, "--train-fraction", "0.6", "--transfer", "all"), 3),
        ((*STUDENT, "--method", "fitnet"), 3),
        ((*STUDENT, "--method", "vid"), 3),
        ((*STUDENT, "--method", "crd"), 3),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else f"epoch {value}",
)
def test_resumed_run_ends_with_the_weights_of_an_unbroken_one(
    kd: CommandLine, stop_in_epoch: HappenIn, command: tuple[str, ...], epoch: int
) -> None:
    kd(*command, "--output", "unbroken.safetensors")
    stop_in_epoch(epoch)
    assert kd(*command, "--output", "broken.safetensors")[0] == 130
    stop_in_epoch(None)
    assert kd(*command, "--output", "broken.safetensors", "--resume")[0] == 0
    assert Path("broken.safetensors").read_bytes() == Path("unbroken.safetensors").read_bytes()


def test_resumed_run_reports_all_its_epochs(kd: CommandLine, stop_in_epoch: HappenIn) -> None:
    stop_in_epoch(3)
    kd(*TEACHER)
    stop_in_epoch(None)
    code, stdout, _ = kd(*TEACHER, "--resume", "--json")
    result = json.loads(stdout)
    assert code == 0
    assert [epoch["epoch"] for epoch in result["history"]] == [1, 2, 3, 4]
    assert result["train_seconds"] == pytest.approx(sum(epoch["seconds"] for epoch in result["history"]))


def test_interrupt_says_in_one_line_what_is_kept_and_how_to_go_on(kd: CommandLine, stop_in_epoch: HappenIn) -> None:
    stop_in_epoch(3)
    code, stdout, stderr = kd(*TEACHER)
    assert (code, stdout, stderr.count("\n")) == (130, "", 1)
    assert f"{STATE} keeps 2 of 4 epochs" in stderr
    assert "--resume" in stderr


@pytest.mark.parametrize("written", [True, False])
def test_interrupt_while_a_state_is_written_says_what_is_kept(
    kd: CommandLine, monkeypatch: pytest.MonkeyPatch, written: bool
) -> None:
    calls = itertools.count()

    def write(path: Path, content: bytes) -> None:
        last = next(calls) == 1  # after the second epoch
        if written or not last:
            write_atomically(path, content)
        if last:
            raise KeyboardInterrupt

    monkeypatch.setattr(resume, "write_atomically", write)
    code, _, stderr = kd(*TEACHER)
    assert (code, f"{STATE} keeps {2 if written else 1} of 4 epochs" in stderr) == (130, True)


def test_interrupted_run_leaves_the_earlier_checkpoint(kd: CommandLine, stop_in_epoch: HappenIn) -> None:
    kd(*TEACHER)
    path = Path("runs/models/digits/teacher.safetensors")
    before = path.read_bytes()
    stop_in_epoch(2)
    assert kd(*TEACHER, "--seed", "1")[0] == 130
    assert path.read_bytes() == before


def test_completed_run_leaves_no_state_behind(kd: CommandLine) -> None:
    kd(*TEACHER, "--ensemble", "2")
    assert sorted(path.name for path in Path("runs/models/digits").iterdir()) == [
        "teacher-2.safetensors",
        "teacher.safetensors",
    ]


def test_state_is_recognised_and_no_other_file_is(kd: CommandLine, stop_in_epoch: HappenIn) -> None:
    kd(*TEACHER, "--output", "checkpoint")
    stop_in_epoch(3)
    kd(*TEACHER)
    torch.save({"weight": torch.zeros(3)}, "plain.pth")
    Path("text").write_text("a thesis")
    assert is_state(STATE)
    assert [is_state(Path(name)) for name in ("checkpoint", "plain.pth", "text", "not there")] == [False] * 4


def test_resuming_where_nothing_was_stopped_is_an_ordinary_run(kd: CommandLine) -> None:
    assert kd(*TEACHER, "--resume")[0] == 0


def test_runs_whose_files_differ_in_the_ending_alone_have_states_of_their_own(
    kd: CommandLine, stop_in_epoch: HappenIn
) -> None:
    names = ("run.0", "run.1")
    kd(*TEACHER, "--output", "unbroken")
    stop_in_epoch(3)
    for seed, name in enumerate(names):
        kd(*TEACHER, "--output", name, "--seed", seed)
    stop_in_epoch(None)
    for seed, name in enumerate(names):
        assert kd(*TEACHER, "--output", name, "--seed", seed, "--resume")[0] == 0
    assert Path("run.0").read_bytes() == Path("unbroken").read_bytes()
    assert load_checkpoint(Path("run.1"), CPU).metadata.seed == 1


@pytest.mark.parametrize(
    "other",
    [
        (*TEACHER[:-1], "5"),
        (*TEACHER, "--seed", "1"),
        (*TEACHER, "--batch-size", "32"),
        (*TEACHER, "--lr", "0.01"),
        (*TEACHER, "--schedule", "cosine"),
        (*TEACHER, "--augment", "shift"),
        (*TEACHER, "--augment", "warp"),
        (*TEACHER, "--arch", "cnn-5"),
    ],
    ids=" ".join,
)
def test_state_of_another_command_line_is_refused_and_kept(
    kd: CommandLine, stop_in_epoch: HappenIn, other: tuple[str, ...]
) -> None:
    stop_in_epoch(3)
    kd(*TEACHER)
    stop_in_epoch(None)
    state = STATE.read_bytes()
    code, _, stderr = kd(*other, "--resume")
    assert (code, stderr.count("\n")) == (1, 1)
    assert "another command line" in stderr
    assert STATE.read_bytes() == state


@pytest.mark.parametrize(
    "other",
    [
        ("--method", "vid"),
        ("--temperature", "5"),
        ("--train-fraction", "0.5"),
        ("--train-fraction", "0.6", "--transfer", "all"),
        ("--student", "mlp-17"),
    ],
    ids=" ".join,
)
def test_state_of_another_students_command_line_is_refused(
    kd: CommandLine, stop_in_epoch: HappenIn, other: tuple[str, ...]
) -> None:
    stop_in_epoch(3)
    kd(*STUDENT, "--train-fraction", "0.6")
    stop_in_epoch(None)
    code, _, stderr = kd(*STUDENT, "--train-fraction", "0.6", *other, "--resume")
    assert code == 1
    assert "another command line" in stderr


def test_state_of_a_student_of_another_teacher_is_refused(kd: CommandLine, stop_in_epoch: HappenIn) -> None:
    stop_in_epoch(3)
    kd(*STUDENT)
    stop_in_epoch(None)
    kd(*TEACHER)  # the student's teacher is another one from now on
    code, _, stderr = kd(*STUDENT, "--resume")
    assert code == 1
    assert "another command line" in stderr


def as_state(content: object) -> bytes:
    """A file that looks like a state from outside."""
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


@pytest.mark.parametrize("damage", ["truncated", "list", "tensor", "nothing in it", "fewer epochs", "other weights"])
def test_damaged_state_is_refused_in_one_line_and_kept(kd: CommandLine, stop_in_epoch: HappenIn, damage: str) -> None:
    stop_in_epoch(3)
    kd(*TEACHER)
    stop_in_epoch(None)
    kept = torch.load(STATE, weights_only=True)
    damaged = {
        "truncated": STATE.read_bytes()[:-100],
        "list": as_state([1, 2, 3]),
        "tensor": as_state(torch.zeros(3)),
        "nothing in it": as_state({}),
        "fewer epochs": as_state(kept | {"history": kept["history"][:1]}),
        "other weights": as_state(kept | {"training": kept["training"] | {"network": {}}}),
    }[damage]
    STATE.write_bytes(damaged)
    code, _, stderr = kd(*TEACHER, "--resume")
    assert (code, stderr.count("\n")) == (1, 1)
    assert "start again without --resume" in stderr
    assert STATE.read_bytes() == damaged


@pytest.mark.parametrize("resume", [(), ("--resume",)], ids=["anew", "resume"])
@pytest.mark.parametrize("content", [b"", b"a thesis"])
def test_file_of_somebody_else_in_the_place_of_the_state_is_refused_and_kept(
    kd: CommandLine, content: bytes, resume: tuple[str, ...]
) -> None:
    STATE.parent.mkdir(parents=True)
    STATE.write_bytes(content)
    code, _, stderr = kd(*TEACHER, *resume)
    assert (code, stderr.count("\n")) == (1, 1)
    assert str(STATE) in stderr
    assert STATE.read_bytes() == content


def test_what_is_kept_is_read_without_running_any_code(kd: CommandLine) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, ("sprung",)

    STATE.parent.mkdir(parents=True)
    STATE.write_bytes(as_state({"run": Trap()}))
    assert kd(*TEACHER, "--resume")[0] == 1
    assert not Path("sprung").exists()


@pytest.mark.parametrize("lr", ["1e20", "1e38"])
def test_loss_that_is_no_number_stops_the_run_and_names_epoch_and_step(kd: CommandLine, lr: str) -> None:
    code, _, stderr = kd(*TEACHER, "--lr", lr)
    assert (code, stderr.count("\n")) == (1, 1)
    assert "in epoch 1, step " in stderr
    assert "--lr" in stderr
    assert list(Path("runs/models/digits").iterdir()) == []


def test_run_that_diverged_goes_on_with_the_smaller_learning_rate_that_it_names(
    kd: CommandLine, diverge_in_epoch: HappenIn
) -> None:
    diverge_in_epoch(3)
    code, _, stderr = kd(*TEACHER, "--lr", "0.01")
    assert (code, stderr.count("\n")) == (1, 1)
    assert f"in epoch 3, step 7; {STATE} keeps 2 of 4 epochs" in stderr
    assert "--resume and a smaller --lr, e.g. --lr 0.001" in stderr
    diverge_in_epoch(None)
    code, stdout, _ = kd(*TEACHER, "--resume", "--lr", "0.001", "--json")
    result = json.loads(stdout)
    assert code == 0
    assert len(result["history"]) == 4
    assert result["options"]["lr"] == 0.001
    assert not STATE.exists()


def test_state_of_a_run_that_diverged_is_that_of_the_last_good_epoch(
    kd: CommandLine, diverge_in_epoch: HappenIn
) -> None:
    kd(*TEACHER, "--output", "unbroken")
    diverge_in_epoch(3)
    kd(*TEACHER, "--output", "broken")
    diverge_in_epoch(None)
    assert kd(*TEACHER, "--output", "broken", "--resume")[0] == 0
    assert Path("broken").read_bytes() == Path("unbroken").read_bytes()


@pytest.mark.parametrize(
    "other", [("--seed", "1"), ("--batch-size", "32"), ("--schedule", "cosine"), ("--epochs", "5")], ids=" ".join
)
def test_run_that_diverged_may_change_its_learning_rate_and_nothing_else(
    kd: CommandLine, diverge_in_epoch: HappenIn, other: tuple[str, ...]
) -> None:
    diverge_in_epoch(3)
    kd(*TEACHER)
    diverge_in_epoch(None)
    code, _, stderr = kd(*TEACHER, "--resume", "--lr", "0.0001", *other)
    assert code == 1
    assert f"another command line ({other[0][2:].replace('-', '_')} " in stderr


def test_run_that_went_on_is_bound_to_its_new_learning_rate(
    kd: CommandLine, diverge_in_epoch: HappenIn, stop_in_epoch: HappenIn
) -> None:
    diverge_in_epoch(3)
    kd(*TEACHER, "--lr", "0.01")
    diverge_in_epoch(None)
    stop_in_epoch(4)
    assert kd(*TEACHER, "--lr", "0.001", "--resume")[0] == 130
    stop_in_epoch(None)
    assert "another command line (lr " in kd(*TEACHER, "--lr", "0.01", "--resume")[2]
    assert kd(*TEACHER, "--lr", "0.001", "--resume")[0] == 0


def test_state_whose_own_loss_is_no_number_is_not_offered(kd: CommandLine) -> None:
    """One step an epoch: the loss of the second is that of the weights that were kept after the first."""
    command = (*STUDENT, "--method", "labels", "--batch-size", "2000")
    code, _, stderr = kd(*command, "--lr", "1e20")
    assert code == 1
    assert "in epoch 2, step 1; start again with a smaller --lr" in stderr
    assert list(Path("runs/models/digits").iterdir()) == []


def test_run_that_diverges_at_once_leaves_the_state_of_another_run(kd: CommandLine, stop_in_epoch: HappenIn) -> None:
    stop_in_epoch(3)
    kd(*TEACHER)
    state = STATE.read_bytes()
    stop_in_epoch(None)
    assert kd(*TEACHER, "--lr", "1e38")[0] == 1
    assert STATE.read_bytes() == state


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder, but for the data."""
    load(DataConfig("digits", tmp_path / "data"))
    return tmp_path


def program(folder: Path, *options: str) -> subprocess.Popen[bytes]:
    environment = os.environ | {"KD_DATA_DIR": str(folder / "data"), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "kd_cli", *TEACHER, *options],
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        preexec_fn=hear_interrupts,
    )


def wait_for_state(run: subprocess.Popen[bytes], checkpoint: Path) -> None:
    state = checkpoint.with_name(f"{checkpoint.name}.resume")
    while run.poll() is None and not state.exists():
        time.sleep(0.01)
    time.sleep(0.1)  # until the run knows of it, too


@posix
@pytest.mark.slow
@pytest.mark.parametrize("kills", [1, 10])
def test_killed_at_any_moment_and_resumed_ends_with_the_bytes_of_the_unbroken_run(folder: Path, kills: int) -> None:
    epochs = ("--epochs", "12")
    unbroken = folder / "unbroken.safetensors"
    with program(folder, "--output", unbroken.name, *epochs) as run:
        wait_for_state(run, unbroken)
        start = time.monotonic()
        run.communicate()
        training = time.monotonic() - start
    moments = random.Random(0)
    for number in range(kills):
        path = folder / f"{number}.safetensors"
        with program(folder, "--output", path.name, *epochs) as run:
            wait_for_state(run, path)
            time.sleep(moments.uniform(0, training))
            run.kill()
        if path.exists():
            load_checkpoint(path, CPU)  # whole, or this raises
        resumed = program(folder, "--output", path.name, "--resume", *epochs)
        _, stderr = resumed.communicate()
        assert resumed.returncode == 0, stderr
        assert path.read_bytes() == unbroken.read_bytes()


@posix
@pytest.mark.parametrize("which", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGTERM])
def test_signal_ends_a_run_with_one_line_and_exit_code_130(folder: Path, which: signal.Signals) -> None:
    with program(folder, "--output", "mine.safetensors", "--epochs", "100000") as run:
        wait_for_state(run, folder / "mine.safetensors")
        run.send_signal(which)
        try:
            _, stderr = run.communicate(timeout=60)
        finally:
            run.kill()
    assert (run.returncode, stderr.count(b"\n")) == (130, 1)
    assert b"--resume" in stderr


@pytest.mark.slow
@posix
def test_processes_that_write_one_checkpoint_leave_one_of_theirs_whole(folder: Path) -> None:
    runs = [program(folder, "--output", "shared.safetensors", "--seed", str(seed)) for seed in range(4)]
    for run in runs:
        run.communicate()
    assert load_checkpoint(folder / "shared.safetensors", CPU).metadata.seed in range(4)
    assert [path.name for path in folder.iterdir() if path.suffix in (".tmp", ".resume")] == []


@pytest.mark.slow
@posix
def test_comparison_killed_at_any_moment_goes_on_to_the_same_result(tmp_path: Path) -> None:
    train_teacher = [sys.executable, "-m", "kd_cli", *TEACHER]
    subprocess.run(train_teacher, cwd=tmp_path, check=True, stdout=subprocess.DEVNULL)
    options = ["--dataset", "digits", "--students", "mlp-8,mlp-16", "--seeds", "3", "--epochs", "10", "--json"]

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
