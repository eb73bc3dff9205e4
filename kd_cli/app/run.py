"""The training runs of a server: one at a time, each in a process of its own, so that the page stays quick."""

import atexit
import itertools
import tempfile
import threading
from functools import partial
from pathlib import Path

import streamlit as st
import torch

from kd_cli.app.events import Began, Evaluated, Event, Failed, Measured, Progressed, Trained
from kd_cli.app.limits import MAX_EPOCHS, MAX_PARAMETERS
from kd_cli.app.process import Process
from kd_cli.app.worker import train
from kd_cli.commands.job import StudentConfig
from kd_cli.commands.results import TrainingResult
from kd_cli.config import KdError
from kd_cli.data.dataset import DataInfo
from kd_cli.networks.classifier import build_classifier, count_parameters


class Run:
    """A training run, and what its worker has told so far.

    Args:
        name: what it is called on the page.
        config: what to train.
        output: the checkpoint to write.
        owner: the visitor who started it, see `visitor`.
    """

    def __init__(self, name: str, config: StudentConfig, output: Path, owner: str) -> None:
        self.name, self.owner = name, owner
        self.total_steps = self.step = 0
        self.progress: list[Progressed] = []
        self.tests: list[Evaluated] = []
        self.result: TrainingResult | None = None
        self.error: str | None = None
        self.stopping = False
        self._process = Process(partial(train, config, output), self._hear)

    @property
    def running(self) -> bool:
        """Whether there is more to come."""
        return self._process.running

    def stop(self) -> None:
        """End the run after the epoch that it is in, and keep its student."""
        self.stopping = True
        self._process.stop()

    def kill(self) -> None:
        """End the run at once, and keep nothing."""
        self._process.kill()

    def wait(self, seconds: float) -> None:
        """Wait until the run has ended, but not longer than that."""
        self._process.wait(seconds)

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
                self.error = event.message
            case Measured():
                pass  # not of a training run


class Runs:
    """The runs of a server. Their students are kept as long as it lives."""

    def __init__(self) -> None:
        self.latest: Run | None = None
        self._all: list[Run] = []
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._folder = tempfile.TemporaryDirectory(prefix="kd-app-")
        atexit.register(self._close)

    def start(self, name: str, config: StudentConfig, owner: str) -> Run:
        """Start a run.

        Raises:
            KdError: another one is going on.
        """
        with self._lock:
            if self.latest and self.latest.running:
                raise KdError("a run is going on: start yours when it has ended")
            number = next(self._numbers)
            output = Path(self._folder.name) / f"student-{number}.safetensors"
            self.latest = Run(f"{number}: {name}", config, output, owner)
            self._all.append(self.latest)
            return self.latest

    def students(self) -> dict[Path, str]:
        """The checkpoints that there are, the latest first, with the names of their runs."""
        return {Path(run.result.checkpoint): run.name for run in reversed(self._all) if run.result}

    def _close(self) -> None:
        if self.latest and self.latest.running:
            self.latest.kill()
            self.latest.wait(5)
        self._folder.cleanup()


@st.cache_resource(show_spinner=False)
def runs() -> Runs:
    """The one of this server."""
    return Runs()


def require_modest(config: StudentConfig, data: DataInfo) -> None:
    """Refuse a run that would keep the server, which all visitors share, busy for long.

    Raises:
        KdError: says the bound.
    """
    with torch.device("meta"):  # counts without memory
        parameters = count_parameters(build_classifier(config.architecture, data))
    if parameters > MAX_PARAMETERS:
        raise KdError(
            f"{config.architecture} has {parameters:,} parameters, and this page trains students of up to "
            f"{MAX_PARAMETERS:,}: choose a smaller one, or use kd distill"
        )
    if config.training.epochs > MAX_EPOCHS:
        raise KdError(f"this page trains for up to {MAX_EPOCHS} epochs: choose fewer, or use kd distill")
