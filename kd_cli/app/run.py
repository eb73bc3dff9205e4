"""The training runs of a server: one at a time, each in a process of its own, so that the page stays quick.

Runs wait in a queue for their turn. A run belongs to the visitor who started it.
"""

import atexit
import itertools
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import streamlit as st

from kd_cli.app.events import Began, Evaluated, Event, Failed, Measured, Progressed, Trained
from kd_cli.app.limits import DISCONNECTED_SECONDS, LONGEST_RUN_SECONDS, MAX_OWN_RUNS, MAX_RUNS, MAX_STUDENTS, MAX_TABS
from kd_cli.app.process import Process
from kd_cli.app.visitor import is_here
from kd_cli.app.worker import Work, train
from kd_cli.commands.job import StudentConfig
from kd_cli.commands.results import TrainingResult
from kd_cli.config import KdError
from kd_cli.data.dataset import DataInfo

Launch = Callable[[Work, Callable[[Event], None]], Process]
"""Starts a worker for some work; it hands over its events."""


LOOK_SECONDS = 0.5
"""Between two looks at whether a run's visitor is still here."""


class Run:
    """A training run, and what its worker has told so far.

    Args:
        name: what it is called on the page.
        config: what to train.
        data: what to train it on.
        output: the checkpoint to write.
        owner: the visitor who started it, see `visitor`.
        seconds: that it may take.
    """

    def __init__(
        self,
        name: str,
        config: StudentConfig,
        data: DataInfo,
        output: Path,
        owner: str,
        seconds: float = LONGEST_RUN_SECONDS,
    ) -> None:
        self.name, self.config, self.data, self.output, self.owner = name, config, data, output, owner
        self.seconds = seconds
        self.total_steps = self.step = 0
        self.progress: list[Progressed] = []
        self.tests: list[Evaluated] = []
        self.result: TrainingResult | None = None
        self.error: str | None = None
        self.stopping = False
        self.cancelled = False
        self._process: Process | None = None
        self._ended = threading.Event()
        self._lock = threading.Lock()

    @property
    def running(self) -> bool:
        """Whether its turn has come, and there is more to come."""
        return self._process is not None and not self.ended

    @property
    def ended(self) -> bool:
        """Whether nothing more is to come."""
        return self._ended.is_set()

    def carry_out(self, launch: Launch = Process, is_wanted: Callable[[], bool] = lambda: True) -> None:
        """Train, and wait for the end of the run, or of its time. If nobody wants it, it stops after its epoch."""
        with self._lock:
            if not self.cancelled:
                try:
                    self._process = launch(partial(train, self.config, self.output), self._hear)
                except OSError as error:
                    self.error = f"it could not be started: {error.strerror}; try again later"
        if self._process:
            begin = wanted = time.monotonic()
            while self._process.running and (now := time.monotonic()) < begin + self.seconds:
                wanted = now if is_wanted() else wanted
                if now > wanted + DISCONNECTED_SECONDS and not self.stopping:
                    self.stop()
                self._process.wait(min(LOOK_SECONDS, self.seconds))
            if self._process.running:
                minutes = max(1, round(self.seconds / 60))
                self._process.kill()
                self._process.wait(10)
                self.error = f"ended after {minutes} min, the longest that it may take; nothing was kept"
        if self.result is None:  # what was written on the way
            for leftover in self.output.parent.glob(f"*{self.output.stem}.*"):
                leftover.unlink(missing_ok=True)
        self._ended.set()

    def end(self) -> None:
        """Take the run out of the queue or, where its turn has come, stop it."""
        if self._process:
            self.stop()
        else:
            self.cancel()

    def stop(self) -> None:
        """End the run after the epoch that it is in, and keep its student."""
        self.stopping = True
        if self._process:
            self._process.stop()

    def cancel(self) -> None:
        """End the run at once, or take it out of the queue; nothing is kept."""
        with self._lock:
            self.cancelled = True
            if self._process:
                self._process.kill()
            else:
                self._ended.set()

    def give_up(self, reason: str) -> None:
        """End a run that cannot have its turn."""
        self.error = reason
        self._ended.set()

    def wait(self, seconds: float) -> None:
        """Wait until the run has ended, but not longer than that."""
        self._ended.wait(seconds)

    def _hear(self, event: Event) -> None:
        match event:
            case Began():
                self.total_steps = event.total_steps
            case Progressed():
                self.progress.append(event)
                self.step = event.step
            case Evaluated():
                self.tests.append(event)
                self.step = event.step
            case Trained():
                self.result = event.result
            case Failed():
                self.error = None if self.cancelled else event.message
            case Measured():
                pass  # not of a training run


class Runs:
    """The runs of a server. The latest students are kept as long as it lives.

    Args:
        launch: starts the workers.
        here: whether a visitor is still here.
    """

    def __init__(self, launch: Launch = Process, here: Callable[[str], bool] = is_here) -> None:
        self._launch, self._is_here = launch, here
        self._all: list[Run] = []
        self._changed = threading.Condition()
        self._numbers = itertools.count(1)
        self._folder = tempfile.TemporaryDirectory(prefix="kd-app-")
        self.folder = Path(self._folder.name)
        self._closed = False
        atexit.register(self.close)
        threading.Thread(target=self._take_turns, daemon=True).start()

    def add(self, name: str, config: StudentConfig, data: DataInfo, owner: str) -> Run:
        """Put a run into the queue. It starts when its turn comes.

        Raises:
            KdError: too many runs wait already, the visitor's own or all visitors'.
        """
        with self._changed:
            unfinished = self.unfinished()
            if sum(run.owner == owner for run in unfinished) >= MAX_OWN_RUNS:
                raise KdError(f"{MAX_OWN_RUNS} runs of yours are not done yet: wait for one of them, or cancel it")
            if len(unfinished) >= MAX_RUNS:
                raise KdError(f"{MAX_RUNS} runs are not done yet, the most that this page takes: try again later")
            number = next(self._numbers)
            output = self.folder / f"student-{number}.safetensors"
            run = Run(f"{number}: {name}", config, data, output, owner)
            self._all.append(run)
            self._changed.notify_all()
            return run

    def unfinished(self) -> list[Run]:
        """The runs that go on or wait, in the order of their turns."""
        return [run for run in list(self._all) if not run.ended]

    def latest_of(self, owner: str) -> Run | None:
        """The run of a visitor's that ended last, if any."""
        return next((run for run in reversed(self._all) if run.owner == owner and run.ended), None)

    def students(self) -> list[Run]:
        """The runs whose students are kept, the latest first."""
        return [run for run in reversed(self._all) if run.ended and run.result]

    def _take_turns(self) -> None:
        while True:
            with self._changed:
                while not self.unfinished() and not self._closed:
                    self._changed.wait()
                if self._closed:
                    return
                run = self.unfinished()[0]
            if self._is_here(run.owner):
                run.carry_out(self._launch, partial(self._is_wanted, run))
            else:
                run.give_up("its visitor has left")
            self._forget_old()

    def _is_wanted(self, run: Run) -> bool:
        """Whether the visitor is here, or nobody else waits."""
        return self._is_here(run.owner) or len(self.unfinished()) == 1

    def _forget_old(self) -> None:
        """Bound what is kept: students take disk, curves take memory."""
        with self._changed:
            for run in self.students()[MAX_STUDENTS:]:
                run.output.unlink(missing_ok=True)
                self._all.remove(run)
            # A run without a student is kept until its visitor has seen what came of it: the latest of each.
            failed = [run for run in self._all if run.ended and not run.result]
            latest = list({run.owner: run for run in failed}.values())[-MAX_TABS:]
            for run in failed:
                if run not in latest:
                    self._all.remove(run)

    def close(self) -> None:
        """End all runs, and remove what they left."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for run in self.unfinished():
            run.cancel()
        self._folder.cleanup()


@st.cache_resource(show_spinner=False)
def runs() -> Runs:
    """The one of this server."""
    return Runs()
