"""A process that trains a student for the page: a job comes in on stdin, and what happens goes out on stdout.

Both are JSON, a line each. After the job, the line ``stop`` ends the run after the epoch that it is in. The end of
stdin ends it at once: the server is gone.
"""

import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

from kd_cli import recipes
from kd_cli.context import Place
from kd_cli.journal import Entry
from kd_cli.methods import MethodName, choose
from kd_cli.settings import DatasetName, DeviceName, KdError, Schedule, TrainingSettings, parse_spec


def main() -> None:
    """Carry out the job."""
    if hasattr(os, "nice"):
        os.nice(10)  # whoever draws meanwhile goes first
    events = Events()
    job = json.loads(sys.stdin.readline())
    threading.Thread(target=events.obey, daemon=True).start()
    place = Place(DatasetName(job["dataset"]), Path(job["data_dir"]), Path(job["models_dir"]), DeviceName.auto)
    settings = TrainingSettings(**job["settings"] | {"schedule": Schedule(job["settings"]["schedule"])})
    try:
        choice = choose(MethodName(job["method"]), job["options"])
        result = recipes.distill(
            place, parse_spec(job["student"]), settings, choice, output=Path(job["output"]), watch=events
        )
    except KdError as error:
        events.say("failed", error=str(error))
    else:
        events.say("done", result=result)


class Events:
    """Tells the server how the run goes."""

    def __init__(self) -> None:
        self._out = sys.stdout
        sys.stdout = sys.stderr  # what a library prints is no event
        self.step = 0
        self.wanted = True

    def obey(self) -> None:
        """Wait for what the server says."""
        for _ in sys.stdin:
            self.wanted = False
        os._exit(130)

    def say(self, event: str, **details: Any) -> None:
        """Send a line to the server."""
        print(json.dumps({"event": event} | details), file=self._out, flush=True)

    def begin(self, steps: int, done: int) -> None:
        """The run starts."""
        self.say("begin", steps=steps)

    def begin_epoch(self, title: str) -> None:
        """Nothing to tell."""

    def update(self, n: int) -> None:
        """Count the steps."""
        self.step += n

    def show(self, loss: float, accuracy: float) -> None:
        """The means over the epoch so far."""
        self.say("step", step=self.step, loss=loss, accuracy=accuracy)

    def end_epoch(self, entry: Entry) -> bool:
        """What the epoch came to; whether to go on."""
        self.say("epoch", step=self.step, **entry)
        return self.wanted

    def close(self) -> None:
        """Nothing to tell: the result follows."""


if __name__ == "__main__":
    main()
