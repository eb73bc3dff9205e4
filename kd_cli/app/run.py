"""A training run as the server sees it: a process of its own, so that the page stays quick, and what it has told."""

import atexit
import contextlib
import itertools
import json
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import streamlit as st

from kd_cli.settings import KdError


class Run:
    """Starts a process that trains, see `worker`, and takes in what it says.

    ``training`` has loss and accuracy on the training pictures, means over the epoch so far; ``test`` has the accuracy
    on the test pictures after each epoch. Both say at which step.
    """

    def __init__(self, name: str, job: dict[str, Any]) -> None:
        self.name, self.job = name, job
        self.training: list[dict[str, float]] = []
        self.test: list[dict[str, float]] = []
        self.total_steps = self.step = 0
        self.result: dict[str, Any] | None = None
        self.error: str | None = None
        self.stopping = False
        command = [sys.executable, "-m", "kd_cli.app.worker"]
        # In a session of its own, Ctrl-C on the server's terminal does not reach it: the server ends it.
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        self._say(json.dumps(job))
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    @property
    def running(self) -> bool:
        """Whether there is more to come."""
        return self._listener.is_alive()

    def stop(self) -> None:
        """End the run after the epoch that it is in; what was learnt until then is kept."""
        self.stopping = True
        self._say("stop")

    def end(self) -> None:
        """End the run at once; nothing is kept."""
        self._process.kill()

    def wait(self, seconds: float) -> None:
        """Wait until it has ended."""
        self._listener.join(seconds)

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # it has ended already
            print(line, file=self._process.stdin, flush=True)

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._take_in(json.loads(line))
        self._process.wait()
        if self.result is None and self.error is None:
            self.error = "ended before it was done; nothing was kept"

    def _take_in(self, event: dict[str, Any]) -> None:
        match event.pop("event"):
            case "begin":
                self.total_steps = event["steps"]
            case "step":
                self.step = event["step"]
                self.training.append(event)
            case "epoch":
                self.step = event["step"]
                self.training.append({"step": self.step, "loss": event["loss"]})
                self.test.append({"step": self.step, "accuracy": event["accuracy"]})
            case "done":
                self.result = event["result"]
            case "failed":
                self.error = event["error"]


class Trainings:
    """The runs of a server: one at a time, and the networks that came of them, as long as the server lives."""

    def __init__(self) -> None:
        self.latest: Run | None = None
        self._runs: list[Run] = []
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._folder = tempfile.TemporaryDirectory(prefix="kd-app-")
        atexit.register(self._close)

    def start(self, name: str, job: dict[str, Any]) -> Run:
        """Start a run.

        Raises:
            KdError: another one is going on.
        """
        with self._lock:
            if self.latest and self.latest.running:
                raise KdError("another training is going on: wait for it, or stop it")
            number = next(self._numbers)
            path = Path(self._folder.name) / f"student-{number}.safetensors"
            self.latest = Run(f"{number}: {name}", job | {"output": str(path)})
            self._runs.append(self.latest)
            return self.latest

    def results(self) -> dict[Path, str]:
        """The checkpoints that there are, the latest first, with the names of their runs."""
        return {Path(run.result["checkpoint"]): run.name for run in reversed(self._runs) if run.result}

    def _close(self) -> None:
        if self.latest and self.latest.running:
            self.latest.end()
            self.latest.wait(5)
        self._folder.cleanup()


@st.cache_resource(show_spinner=False)
def trainings() -> Trainings:
    """The one of this server."""
    return Trainings()
