"""Whole sessions: commands in a row in a folder of a user's own files, with interrupts, kills and full disks.

After every step: no file of the user's has changed, no traceback, no hang, no half a file, and whatever the program
said of files is true. ``KD_SEQUENCES=500 pytest -m slow tests/test_sequences.py`` runs that many, others each time
(``--hypothesis-seed=N`` repeats them); without it the sequences are always the same.
"""

import csv
import errno
import io
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import IO, Any, Literal
from unittest.mock import patch

import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test
from PIL import Image, ImageDraw

from kd_cli import files
from kd_cli.cli import main
from kd_cli.networks.build import build_network
from kd_cli.networks.checkpoint import is_checkpoint, load_checkpoint
from kd_cli.networks.spec import parse_spec
from kd_cli.terminal import printable
from kd_cli.training.optimiser import Adam
from tests.conftest import measure_briefly

pytestmark = pytest.mark.skipif(os.name != "posix", reason="makes pipes and links, and sets alarms")

CPU = torch.device("cpu")
STEPS = 8
MOST_SECONDS = 60

Args = tuple[str, ...]
Tree = dict[str, tuple[int, bytes]]
"""Paths in a folder -> the mode and the content of what is there; of a link, where it leads."""


# The user's folder


def make_folder(folder: Path) -> None:
    """Files that a user may have; two of them are checkpoints that this program wrote."""
    for name in ("pics/three three", "runs", "theirs/digits"):
        (folder / name).mkdir(parents=True)
    texts = {
        **{"important.md": "# Do not lose\n", "notes.csv": "file,error\n7.png,none\n", "results.json": "{}\n"},
        **{"runs/mine.txt": "mine\n", "cv.resume": "my life\n", "my.rejected.safetensors": "a letter\n"},
        **{"theirs/digits/teacher.safetensors": "no weights\n", "new-2.safetensors": "mine\n", "plan.tmp": "mine\n"},
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    for name, digit in {
        **{"pics/7.png": 7, "pics/8.jpg": 4, "pics/three three/3 a.png": 1, "pics/red\x1b[31m.png": 7},
        **{os.fsdecode(b"pics/\xff.png"): 1, "pics/two\nlines.png": 4, "plot.png": 7},
    }.items():
        draw_digit(folder / name, digit)
    for digit in (1, 7):
        (folder / f"shots/{digit}").mkdir(parents=True)
        for number in range(12):
            draw_digit(folder / f"shots/{digit}/{number}.png", digit, width=3 + number % 4)
    for name in ("pics/no image.png", "read-only.txt"):
        (folder / name).write_text("text\n")
    (folder / "read-only.txt").chmod(0o444)
    for name, target in {
        "link.md": "important.md",
        "link.png": "plot.png",
        "link.safetensors": "teacher.safetensors",
    }.items():
        (folder / name).symlink_to(target)
    os.mkfifo(folder / "pipe")
    torch.manual_seed(0)
    torch.save(build_network(parse_spec("mlp-8")).state_dict(), folder / "weights.pth")
    trained = run_command(folder, ("train-teacher", *DIGITS, "--arch", "mlp-16", "--output", "teacher.safetensors"))
    assert trained.code == 0, trained.stderr
    content = bytearray((folder / "teacher.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "broken.safetensors").write_bytes(content)


OURS = ("teacher.safetensors", "broken.safetensors")
"""What this program wrote before: it may be replaced where the command says so, with a line that names it."""


def draw_digit(path: Path, digit: int, width: int = 5) -> None:
    lines = {1: [(30, 8), (30, 52)], 4: [(36, 52), (36, 8), (14, 36), (48, 36)], 7: [(14, 10), (46, 10), (24, 52)]}
    image = Image.new("L", (60, 60), 255)
    ImageDraw.Draw(image).line(lines[digit], fill=0, width=width)
    image.save(path)


def read_tree(folder: Path) -> Tree:
    tree = {}
    for place, folders, names in os.walk(folder):
        for name in [*names, *(each for each in folders if os.path.islink(os.path.join(place, each)))]:
            path = os.path.join(place, name)
            mode = os.lstat(path).st_mode
            content = os.fsencode(os.readlink(path)) if stat.S_ISLNK(mode) else b""
            if stat.S_ISREG(mode):
                content = Path(path).read_bytes()
            tree[os.path.relpath(path, folder)] = mode, content
    return tree


def copy_tree(source: Path, target: Path) -> None:
    def copy(file: str, to: str) -> None:
        if stat.S_ISFIFO(os.stat(file).st_mode):
            os.mkfifo(to)
        else:
            shutil.copy2(file, to)

    shutil.copytree(source, target, symlinks=True, copy_function=copy)


# What goes wrong


class KilledError(BaseException):
    """Stands for SIGKILL: the program does nothing any more, so the folder is put back as it was at that moment."""


class TooLongError(BaseException):
    """A command that would never end."""


@dataclass(frozen=True)
class Fault:
    """Something that happens to a command.

    Attributes:
        kind: Ctrl-C, a kill, or a disk on which no file larger than ``room`` bytes can be written.
        where: at a training step, at a point of writing a file (only there a disk is full), or when one more function
            of this program is called for the first time.
        number: how many such moments pass before it.
        room: bytes.
    """

    kind: Literal["interrupt", "kill", "full disk"]
    where: Literal["step", "write", "call"]
    number: int
    room: int = 0


NOT_IN_THE_PROGRAM = ("main", "_prepare_logging", "_fail", "_complain")
"""Functions of the command line around a command: too short for anybody's Ctrl-C."""

struck: Counter[tuple[str, str]] = Counter()
"""How often each kind of fault came to pass."""


class Faults:
    """Makes a fault happen to a command that runs in this process and in this folder."""

    def __init__(self, fault: Fault, folder: Path) -> None:
        self.fault, self.folder = fault, folder
        self.reached = self.steps = 0
        self.struck = False
        self.seen: set[object] = set()

    @contextmanager
    def at_work(self) -> Iterator[None]:
        real_step, real_sync, real_replace = Adam.step, os.fsync, os.replace

        def step(optimiser: Adam, learning_rate: float) -> None:
            self._reach("step")
            self.steps += 1
            real_step(optimiser, learning_rate)

        def sync(descriptor: int) -> None:
            self._reach("write")
            real_sync(descriptor)

        def replace(source: Path, target: Path) -> None:
            self._reach("write")
            real_replace(source, target)
            self._reach("write")

        with (
            patch.object(Adam, "step", step),
            patch.object(os, "fsync", sync),
            patch.object(os, "replace", replace),
            patch.object(files, "open", self._open, create=True),
        ):
            if self.fault.where == "call":
                sys.setprofile(self._note_call)
            try:
                yield
            finally:
                sys.setprofile(None)

    def _open(self, path: Path, mode: str) -> "FaultyFile":
        self._reach("write")
        return FaultyFile(open(path, mode), self._write)

    def _write(self, file: IO[bytes], content: bytes) -> None:
        file.write(content[: len(content) // 2])
        file.flush()
        if self.fault.kind == "full disk" and self.reached > self.fault.number and len(content) > self.fault.room:
            self._note()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._reach("write")
        file.write(content[len(content) // 2 :])

    def _note_call(self, frame: FrameType, event: str, _: object) -> None:
        if event != "call" or not frame.f_globals.get("__name__", "").startswith("kd_cli"):
            return
        if frame.f_code in self.seen:
            return
        self.seen.add(frame.f_code)
        caller: FrameType | None = frame
        while caller and caller.f_code.co_name not in NOT_IN_THE_PROGRAM:
            caller = caller.f_back
        if caller and caller is not frame and caller.f_code.co_name == "main":
            self._reach("call")

    def _reach(self, where: str) -> None:
        if where == self.fault.where:
            self.reached += 1
            if self.reached == self.fault.number + 1 and self.fault.kind != "full disk":
                self._strike()

    def _strike(self) -> None:
        self._note()
        if self.fault.kind == "interrupt":
            raise KeyboardInterrupt
        copy_tree(self.folder, self.folder.with_name("killed"))
        raise KilledError

    def _note(self) -> None:
        self.struck = True
        struck[self.fault.kind, self.fault.where] += 1


@dataclass
class FaultyFile:
    """A file that is open for writing on a disk with faults."""

    file: IO[bytes]
    on_write: Callable[[IO[bytes], bytes], None]

    def __enter__(self) -> "FaultyFile":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def write(self, content: bytes) -> None:
        self.on_write(self.file, content)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


# Running a command


@dataclass(frozen=True)
class Answer:
    """What came of a command: its exit code (none if it was killed), what it printed, whether its fault happened, and
    whether it trained."""

    code: int | None
    stdout: str
    stderr: str
    struck: bool = False
    trained: bool = False

    @property
    def result(self) -> Any:
        """The JSON object that it printed."""
        return json.loads(self.stdout)


def run_command(folder: Path, args: Args, fault: Fault | None = None) -> Answer:
    """Run a command in this process as the program would run it; its input is an image."""
    stdout, stderr = (
        io.TextIOWrapper(io.BytesIO(), "utf-8"),
        io.TextIOWrapper(io.BytesIO(), "utf-8", "backslashreplace"),
    )
    stdin = io.TextIOWrapper(io.BytesIO((folder / "pics" / "7.png").read_bytes()))
    faults = Faults(fault or Fault("interrupt", "step", sys.maxsize), folder)
    before, terminate = Path.cwd(), signal.getsignal(signal.SIGTERM)
    os.chdir(folder)
    try:
        with (
            redirect_stdout(stdout),
            redirect_stderr(stderr),
            patch.object(sys, "stdin", stdin),
            _time_limit(),
            faults.at_work(),
        ):
            code = main(list(args))
    except KilledError:
        code = None
        shutil.rmtree(folder)
        folder.with_name("killed").rename(folder)
    finally:
        os.chdir(before)
        signal.signal(signal.SIGTERM, terminate)
    return Answer(code, _content(stdout), _content(stderr), faults.struck, faults.steps > 0)


def _content(stream: io.TextIOWrapper) -> str:
    stream.seek(0)
    return stream.read()


@contextmanager
def _time_limit() -> Iterator[None]:
    def give_up(*_: object) -> None:
        raise TooLongError(f"no end after {MOST_SECONDS} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(MOST_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


# What must be true after a step


KEPT = re.compile(r"(?P<state>[^;]+) keeps (?P<done>\d+) of (?P<all>\d+) epochs: repeat the command with --resume")
KEPT_RUNS = re.compile(
    r"; (?P<folder>.+) keeps (?P<done>\d+) of (?P<all>\d+) runs: repeat the command(?P<fresh> without --fresh)?"
)
SMALLER = re.compile(r"(--resume and|start again with) a smaller --lr, e\.g\. --lr (?P<lr>\S+)")
REJECTED = re.compile(r"kept as (?P<file>.+), and not as ")
REFUSED = ("the training loss rose", "no better than chance")


@dataclass
class Check:
    """A step and what came of it, against what may come of it."""

    folder: Path
    args: Args
    fault: Fault | None
    before: Tree
    answer: Answer
    after: Tree = field(init=False)
    changed: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self.after = read_tree(self.folder)
        self.changed = [name for name in self.before | self.after if self.before.get(name) != self.after.get(name)]

    def everything(self, users: Tree) -> None:
        assert {name: self.after.get(name) for name in users} == users
        for name in self.changed:
            self._is_allowed(name)
            self._is_whole(name)
        if self.answer.code is None:
            return
        self._ends_as_documented()
        if "--help" in self.args:
            return
        self._saved_what_it_says()
        self._told_of_states()
        for line in self.answer.stderr.splitlines():
            self._keeps_what_it_says(line.removeprefix("kd: "))

    def _is_allowed(self, name: str) -> None:
        if name in OURS and name in self.before:
            outputs = [
                each
                for each in self._values("--output")
                if os.path.realpath(self.folder / each) == str((self.folder / name).resolve())
            ]
            assert any(f"replacing {output}, " in self.answer.stderr for output in outputs), name
        if name not in self.after:
            assert name.endswith((".resume", ".tmp")), f"{name} is gone"

    def _is_whole(self, name: str) -> None:
        """No file that is new or changed is cut off or damaged."""
        if name not in self.after:
            return
        path, content = self.folder / name, self.after[name][1]
        if name.endswith(".tmp"):
            assert self.answer.code is None, name
        elif name.endswith(".resume"):
            state = torch.load(path, weights_only=True)
            assert len(state["history"]) == state["training"]["epochs_done"]
        elif name.endswith(".json"):
            json.loads(content)
        elif content.startswith(b"\x89PNG"):
            Image.open(path).load()
        elif content.startswith(b"<?xml"):
            assert content.rstrip().endswith(b"</svg>")
        elif content.startswith(b"%PDF"):
            assert content.rstrip().endswith(b"%%EOF")
        elif is_checkpoint(path):
            load_checkpoint(path, CPU)
        else:
            rows = list(csv.reader(io.StringIO(content.decode(errors="surrogateescape"))))
            assert rows[0][0] in ("file", "dataset"), name
            assert {len(row) for row in rows} == {len(rows[0])}, name

    def _ends_as_documented(self) -> None:
        code, stdout, stderr = self.answer.code, self.answer.stdout, self.answer.stderr
        assert code in (0, 1, 2, 130)
        lines = [line for line in stderr.splitlines() if line]
        assert [line for line in lines if not line.startswith("kd: ")] == []
        if code == 130:
            assert self.answer.struck
            assert "stopped" in lines[-1]
        if code:
            assert lines
            if code == 1 and self.answer.trained and self.args[0] != "compare" and not stdout:
                assert any(words in lines[-1] for words in ("keeps ", "kept", "saved", "start again")), lines[-1]
        elif "--json" in self.args and "--help" not in self.args:
            assert isinstance(self.answer.result, dict)
        if "-" not in self._values("--csv"):
            assert set(stdout + stderr) & set(map(chr, [*range(10), *range(11, 32), 127])) == set()

    def _saved_what_it_says(self) -> None:
        if self.answer.code == 0:
            kinds = {"--csv": (b"file,", b"dataset,"), "--plot": (b"\x89PNG", b"<?xml", b"%PDF")}
            for option, beginnings in kinds.items():
                for value in self._values(option)[-1:]:
                    assert value == "-" or (self.folder / value).read_bytes().startswith(beginnings), value
        for shown in re.findall("^Saved to (.+)$", self.answer.stdout, re.MULTILINE):
            load_checkpoint(self._find(shown), CPU)
        for shown in REJECTED.findall(self.answer.stderr):
            load_checkpoint(self._find(shown), CPU)
        if self.answer.code == 0 and "--json" in self.args:
            for each in _runs(self.answer.result):
                checkpoint = load_checkpoint(self.folder / each["checkpoint"], CPU)
                metadata = checkpoint.metadata
                assert (metadata.accuracy, metadata.architecture) == (each["accuracy"], each["architecture"])
            for image in self.answer.result.get("images", ()):
                assert image["preprocessed"] is None or (self.folder / image["preprocessed"]).is_file()

    def _told_of_states(self) -> None:
        """No state of an interrupted run is thrown away, or found missing, without a word."""
        resume, stderr = "--resume" in self.args, self.answer.stderr
        for name in self.changed:
            if name.endswith(".resume") and name in self.before and not resume:
                assert f"starting anew: {printable(name)} of an interrupted run is replaced" in stderr
        if resume and self.answer.code == 0 and "--json" in self.args:
            for each in _runs(self.answer.result):
                state = os.path.normpath(f"{each['checkpoint']}.resume")
                assert state in self.before or f"no interrupted run in {printable(state)}: starting anew" in stderr

    def _keeps_what_it_says(self, line: str) -> None:
        """Follow the advice in a message, in a copy of the folder: it leads to the end."""
        kept, smaller, runs = KEPT.search(line), SMALLER.search(line), KEPT_RUNS.search(line)
        if "earlier checkpoints are as they were" in line:
            assert [name for name in self.changed if name in self.before and not name.endswith(".resume")] == []
        if runs:
            done = int(runs["done"])
            assert len(list(self._find(runs["folder"]).rglob("*.json"))) >= done
            again = self._repeat(without="--fresh" if runs["fresh"] else "")
            if again.stdout:
                assert again.result["runs"]["total"] - again.result["runs"]["carried_out"] >= done
        elif kept:
            again = self._repeat("--resume", *(["--lr", smaller["lr"]] if smaller else []))
            state = self._find(kept["state"].strip())
            assert f"no interrupted run in {kept['state']}" not in again.stderr
            if again.code or not again.stdout:
                assert any(reason in again.stderr for reason in REFUSED), again.stderr
                return
            run = next(each for each in _runs(again.result) if self.folder / f"{each['checkpoint']}.resume" == state)
            history = torch.load(state, weights_only=True)["history"]
            assert len(history) >= int(kept["done"])
            assert len(run["history"]) == int(kept["all"]) or "--patience" in self.args
            assert run["history"][: len(history)] == history
        elif "members are saved: repeat the command with --resume" in line:
            again = self._repeat("--resume")
            assert again.code == 0 or any(reason in again.stderr for reason in REFUSED), again.stderr
        elif smaller:
            again = self._repeat("--lr", smaller["lr"])
            assert again.code == 0, again.stderr

    def _repeat(self, *more: str, without: str = "") -> Answer:
        aside = self.folder.with_name("aside")
        self.folder.rename(aside)
        copy_tree(aside, self.folder)  # where it was: a data set in a folder is known by its place
        args = tuple(each for each in self.args if each not in (without, "--json"))
        try:
            return run_command(self.folder, (*args, *more, "--json"))
        finally:
            shutil.rmtree(self.folder)
            aside.rename(self.folder)

    def _find(self, shown: str) -> Path:
        """The file whose name was printed so."""
        names = {printable(str(path.relative_to(self.folder))): path for path in self.folder.rglob("*")}
        return names[os.path.normpath(shown)]

    def _values(self, option: str) -> list[str]:
        return [value for name, value in zip(self.args, self.args[1:], strict=False) if name == option]


def _runs(result: dict[str, Any]) -> list[dict[str, Any]]:
    """The training runs in a result of training."""
    return result.get("members") or ([result] if "history" in result else [])


# Command lines

Words = st.SearchStrategy[Args]


def mostly(usual: Sequence[Any], odd: Sequence[Any]) -> st.SearchStrategy[Any]:
    """One of the usual values; one time in four, an odd one."""
    return st.sampled_from([0, 1, 2, 3]).flatmap(lambda draw: st.sampled_from(usual if draw < 3 else odd))


def one(option: str, values: st.SearchStrategy[str]) -> Words:
    """An option with one of these values."""
    return values.map(lambda value: (option, value))


def some(most: int, *words: Words | Args) -> Words:
    """Up to so many of these, in any order."""
    strategies = [each if isinstance(each, st.SearchStrategy) else st.just(each) for each in words]
    return st.lists(st.one_of(strategies), max_size=most).map(lambda found: sum(found, ()))


def command(*words: Words) -> Words:
    """All of these, one after another; seldom with a value that is wrong, and with --force only onto known places."""

    def join(parts: tuple[tuple[Args, ...], Args, bool]) -> Args:
        args = sum(parts[0], ()) + parts[1]
        return (*args, "--force") if parts[2] and not set(args) & set(TARGETS) else args

    wrong = mostly([()], [(), *WRONG])
    return st.tuples(st.tuples(*words), wrong, st.sampled_from([False, False, False, True])).map(join)


DIGITS = ("--dataset", "digits")
SHOTS = ("--dataset", "shots")
DATA = mostly([DIGITS], [SHOTS])
TARGETS = ("--output", "--csv", "--plot", "--save-preprocessed", "--models-dir", "--results-dir")
WRONG: list[Args] = [
    *(
        ("--epochs", "0"),
        ("--lr", "nan"),
        ("--batch-size", str(10**21)),
        ("--schedule", "warm"),
        ("--dataset", "digit"),
    ),
    *(
        ("--device", "cuda"),
        ("--colour\x1b[31m",),
        ("--ensemble", str(10**9)),
        ("--seeds", str(10**9)),
        ("--jobs", "0"),
    ),
    *(("--method", "kdd"), ("--student", "mlp128"), ("--arch", "mlp-65536-65536"), ("--alpha", "2"), ("extra\x1b",)),
    *(("--train-fraction", "0"), ("--models-dir", "important.md"), ("--", "-", ""), ("--help",)),
]

CHECKPOINTS = mostly(
    ["teacher.safetensors", "link.safetensors", "runs/models/digits/student.safetensors", "new.safetensors", "new.pth"],
    [
        *("weights.pth", "broken.safetensors", "runs/models/digits/teacher-2.safetensors", "new-2.safetensors"),
        *("important.md", "pipe", "pics", "missing", ""),
    ],
)
OUTPUTS = mostly(
    ["new.safetensors", "new.pth", "a folder/new", "red\x1b[31m.png", "teacher.safetensors", "link.safetensors"],
    [
        *("important.md", "notes.csv", "plot.png", "link.md", "read-only.txt", "weights.pth", "pics/7.png", "pipe"),
        *(
            "shots/1/0.png",
            "runs/mine.txt",
            "cv",
            "my",
            "my.safetensors",
            "pics",
            ".",
            "",
            "x.resume",
            "broken.safetensors",
            "new.png",
        ),
    ],
)
PLOTS = mostly(
    ["new.png", "a folder/new.svg", "red\x1b[31m.png", "new.pdf"],
    [
        *("plot.png", "link.png", "pics/7.png", "shots/7/1.png", "important.md", "new.safetensors"),
        *("teacher.safetensors", ".png", "pipe"),
    ],
)
TABLES = mostly(
    ["new.csv", "a folder/new", "new.png"],
    [
        "notes.csv",
        "important.md",
        "link.md",
        "shots/1/2.png",
        "results.json",
        "teacher.safetensors",
        "pics",
        "pipe",
        "new.safetensors",
    ],
)
FOLDERS = mostly(["new", "a folder"], ["pics", "theirs", "shots", "runs", "runs/models/digits", "important.md", "."])
IMAGES = mostly(
    ["pics", "pics/7.png", "pics/8.jpg", "pics/*.png", "-"],
    ["plot.png", "link.png", "important.md", "pipe", "new", "gone", "."],
)

TRAINING = some(
    3,
    one("--epochs", st.sampled_from(["1", "2", "3"])),
    one("--lr", st.sampled_from(["0.01", "1e-9", "0.1", "10", "1e6", "1e30"])),
    one("--batch-size", st.sampled_from(["32", "300", "1000000"])),
    one("--schedule", st.sampled_from(["constant", "cosine"])),
    one("--seed", st.sampled_from(["7", "4294967295"])),
    *(("--augment", "shift"), ("--augment", "warp"), ("--resume",), ("--resume",), ("-e", "3")),
    *(("--validation-fraction", "0.2", "--patience", "1"), ("--validation-fraction", "0.2", "--keep-best")),
)
START = some(1, one("--init", CHECKPOINTS))
OUTPUT = some(2, one("--output", OUTPUTS), ("--resume",), one("--models-dir", FOLDERS))
SHOWN = some(2, ("--json",), one("--plot", PLOTS))
NETWORK = st.sampled_from(["mlp-8", "mlp-4", "cnn-2", "mlp-1"])
VIEWS = ("--augment", "flip-crop", "--teacher-views", "2")
TEACHERS = some(1, one("--teacher", CHECKPOINTS), one("--ensemble", st.sampled_from(["2", "3"])), VIEWS)
LABELS = some(1, *(("--train-fraction", share) for share in ("0.01", "0.5", "0.9999")), ("--transfer", "all"))
COMPARISON = some(
    3,
    one("--methods", mostly(["kd", "kd,rkd", "dkd", "fitnet,kd", "crd"], ["labels", "", "kdd"])),
    one("--students", mostly(["mlp-4,cnn-2", "cnn-2", "mlp-8"], [",", "mlp"])),
    *(("--seeds", "2"), ("--temperatures", "1,4"), ("--temperatures", "x"), one("--results-dir", FOLDERS)),
    *(("--fresh",), one("--csv", TABLES), ("--plot-cost", "parameters")),
)
EVALUATION = some(2, DIGITS, SHOTS, CHECKPOINTS.map(lambda path: (path,)))
PREDICTION = some(
    3,
    *(
        one("--save-preprocessed", FOLDERS),
        one("--csv", TABLES),
        one("--teacher", CHECKPOINTS),
        ("--labels-from-name",),
    ),
    *(one("--student", CHECKPOINTS), ("--top", "1000"), ("--show",), ("--csv", "-"), ("--json",), DIGITS, ("--all",)),
)

ENDINGS = st.sampled_from(["interrupt", "kill"])
FAULTS = st.none() | st.one_of(
    st.builds(Fault, ENDINGS, st.just("step"), st.integers(0, 70)),
    st.builds(Fault, ENDINGS, st.just("write"), st.integers(0, 20)),
    st.builds(Fault, ENDINGS, st.just("call"), st.integers(0, 250)),
    st.builds(
        Fault, st.just("full disk"), st.just("write"), st.integers(0, 15), st.sampled_from([0, 2_000, 20_000, 100_000])
    ),
)


class Sequences(RuleBasedStateMachine):
    """Commands in a row in one folder."""

    def __init__(self, template: Path, place: Path) -> None:
        super().__init__()
        self.folder = place / "home"
        copy_tree(template, self.folder)
        self.users = {name: value for name, value in read_tree(self.folder).items() if name not in OURS}

    def teardown(self) -> None:
        shutil.rmtree(self.folder)

    def step(self, args: Args, fault: Fault | None) -> None:
        before = read_tree(self.folder)
        answer = run_command(self.folder, args, fault)
        Check(self.folder, args, fault, before, answer).everything(self.users)

    @rule(
        args=command(
            *(DATA, st.just(("--epochs", "2")), one("--arch", NETWORK), some(1, ("--ensemble", "2"))),
            *(TRAINING, START, OUTPUT, SHOWN),
        ),
        fault=FAULTS,
    )
    def train_teacher(self, args: Args, fault: Fault | None) -> None:
        self.step(("train-teacher", *args), fault)

    @rule(
        args=command(
            *(DATA, st.just(("--epochs", "2")), one("--student", NETWORK)),
            one("--method", mostly(["kd", "labels", "rkd", "dkd"], ["fitnet", "crd", "at"])),
            *(TRAINING, START, TEACHERS, LABELS, OUTPUT, SHOWN),
        ),
        fault=FAULTS,
    )
    def distill(self, args: Args, fault: Fault | None) -> None:
        self.step(("distill", *args), fault)

    @rule(
        args=command(
            *(DATA, st.just(("--epochs", "1", "--jobs", "1", "--seeds", "1", "--students", "mlp-4"))),
            *(COMPARISON, TEACHERS, LABELS, SHOWN),
        ),
        fault=FAULTS,
    )
    def compare(self, args: Args, fault: Fault | None) -> None:
        self.step(("compare", *args), fault)

    @rule(args=command(EVALUATION, SHOWN, some(1, ("--details", "--confusion"))), fault=FAULTS)
    def evaluate(self, args: Args, fault: Fault | None) -> None:
        self.step(("evaluate", *args), fault)

    @rule(args=command(EVALUATION, SHOWN), fault=FAULTS)
    def benchmark(self, args: Args, fault: Fault | None) -> None:
        self.step(("benchmark", *args), fault)

    @rule(args=command(some(2, ("--clear",), ("--json",), one("--cache-dir", FOLDERS))), fault=FAULTS)
    def list_cache(self, args: Args, fault: Fault | None) -> None:
        self.step(("list", "cache", *args), fault)

    @rule(args=command(IMAGES.map(lambda image: (image,)), PREDICTION), fault=FAULTS)
    def predict(self, args: Args, fault: Fault | None) -> None:
        self.step(("predict", *args), fault)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The user's folder, to be copied. Everything is imported and computed once, so that a step repeats to the call."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        for name in ("KD_MODELS_DIR", "KD_RESULTS_DIR", "KD_DEBUG", "COLUMNS", "NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
            monkeypatch.setenv(name, "127.0.0.1:9")  # nothing can be downloaded
        monkeypatch.setenv("KD_DATA_DIR", str(tmp_path_factory.mktemp("data")))
        measure_briefly(monkeypatch)
        folder = tmp_path_factory.mktemp("template") / "home"
        make_folder(folder)
        warm = folder.with_name("warm")
        copy_tree(folder, warm)
        for args in (
            ("distill", *DIGITS, "--epochs", "1", "--plot", "new.png"),
            ("compare", *DIGITS, "--epochs", "1", "--jobs", "1", "--seeds", "2", "--students", "mlp-4"),
            ("evaluate", *DIGITS, "--plot", "new.svg"),
            ("benchmark", *DIGITS),
            ("predict", "pics"),
        ):
            run_command(warm, args)
        yield folder


def run_sequences(template: Path, place: Path, count: int, derandomize: bool = True) -> None:
    class InPlace(Sequences):
        def __init__(self) -> None:
            super().__init__(template, place)

    run_state_machine_as_test(
        InPlace,
        settings=settings(
            max_examples=count,
            stateful_step_count=STEPS,
            deadline=None,
            derandomize=derandomize,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_a_few_sessions_lose_no_file_and_say_nothing_false(template: Path, tmp_path: Path) -> None:
    run_sequences(template, tmp_path, 5)


@pytest.mark.slow
@pytest.mark.skipif("KD_SEQUENCES" not in os.environ, reason="set KD_SEQUENCES to a number of sessions, e.g. 500")
def test_many_sessions_lose_no_file_and_say_nothing_false(template: Path, tmp_path: Path) -> None:
    struck.clear()
    run_sequences(template, tmp_path, int(os.environ["KD_SEQUENCES"]), derandomize=False)
    print(f"faults that happened: {dict(struck)}")
    assert {fault for fault, _ in struck} == {"interrupt", "kill", "full disk"}  # or nothing was tried


# The same with processes and a real SIGKILL


def kill_when(folder: Path, args: Args, happened: Callable[[], bool]) -> None:
    """Start a command as a user does, and kill it as soon as something has happened."""
    with subprocess.Popen([sys.executable, "-m", "kd_cli", *args], cwd=folder, stderr=subprocess.DEVNULL) as run:
        deadline = time.monotonic() + MOST_SECONDS
        while not happened():
            assert run.poll() is None, "it ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.005)
        run.kill()


@pytest.mark.slow
@pytest.mark.parametrize("least", [1, 5, 20])
def test_a_killed_training_goes_on_from_the_epochs_that_it_kept(template: Path, tmp_path: Path, least: int) -> None:
    folder = tmp_path / "home"
    copy_tree(template, folder)
    users = read_tree(folder)
    state = folder / "new.safetensors.resume"
    args = ("train-teacher", *DIGITS, "--arch", "mlp-4", "--epochs", "400", "--output", "new.safetensors", "--json")
    seen: set[int] = set()

    def epochs_are_kept() -> bool:
        seen.update([state.stat().st_mtime_ns] if state.exists() else [])
        return len(seen) >= least

    kill_when(folder, args, epochs_are_kept)
    history = torch.load(state, weights_only=True)["history"]
    assert len(history) >= least
    resumed = run_command(folder, (*args, "--resume"))
    assert (resumed.code, resumed.stderr) == (0, "")
    assert resumed.result["history"][: len(history)] == history
    assert len(resumed.result["history"]) == 400
    assert {name: read_tree(folder).get(name) for name in users} == users


@pytest.mark.slow
@pytest.mark.parametrize("least", [1, 3])
def test_a_killed_comparison_goes_on_from_the_runs_that_it_kept(template: Path, tmp_path: Path, least: int) -> None:
    folder = tmp_path / "home"
    copy_tree(template, folder)
    users = read_tree(folder)
    options = ("--students", "mlp-4", "--epochs", "60", "--seeds", "4", "--jobs", "1", "--json")
    results = folder / "runs" / "results"
    kill_when(folder, ("compare", *DIGITS, *options), lambda: len(list(results.rglob("*.json"))) >= least)
    kept = len(list(results.rglob("*.json")))
    again = run_command(folder, ("compare", *DIGITS, *options))
    assert (again.code, again.stderr) == (0, "")
    assert again.result["runs"]["carried_out"] == again.result["runs"]["total"] - kept
    assert {name: read_tree(folder).get(name) for name in users} == users


@pytest.mark.slow
@pytest.mark.parametrize("least", [1, 7, 12, 19, 26])
def test_a_killed_study_goes_on_from_the_trials_that_it_kept(template: Path, tmp_path: Path, least: int) -> None:
    folder = tmp_path / "home"
    copy_tree(template, folder)
    users = read_tree(folder)
    options = ("--student", "mlp-4", "--trials", "10", "--epochs", "6", "--seeds", "1", "--json")
    studies = folder / "runs" / "results" / "digits" / "studies"

    def kept() -> list[tuple[str, int, int]]:
        """The journal and the key of each trial, or repeat, that is written down."""
        return [
            (path.name, *(json.loads(line)["user_attrs"][name] for name in ("number", "repeat")))
            for path in studies.glob("*.journal")
            for line in path.read_bytes().split(b"\n")
            if line.startswith(b"{") and line.endswith(b"}") and b"user_attrs" in line
        ]

    kill_when(folder, ("tune", *DIGITS, *options, "--jobs", "2"), lambda: len(kept()) >= least)
    before = len(kept())
    again = run_command(folder, ("tune", *DIGITS, *options, "--jobs", "1"))
    assert (again.code, again.stderr) == (0, "")
    rows = again.result["rows"]
    whole = sum(row["trials"] + row["repeats"] for row in rows)
    assert [row["trials"] for row in rows] == [10, 10]
    assert again.result["trials_carried_out"] == whole - before
    assert len(kept()) == len(set(kept())) == whole
    elsewhere = ("--jobs", "1", "--results-dir", str(tmp_path / "other"))
    undisturbed = run_command(folder, ("tune", *DIGITS, *options, *elsewhere))
    for row, other in zip(rows, undisturbed.result["rows"], strict=True):
        for key in (
            "method",
            "options",
            "validation_accuracy",
            "validation_runs",
            "trials",
            "epochs",
            "difference",
            "command",
        ):
            assert row[key] == other[key]
        assert row["mean"]["accuracy"] == other["mean"]["accuracy"]
    assert {name: read_tree(folder).get(name) for name in users} == users
