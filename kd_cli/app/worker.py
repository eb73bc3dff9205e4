"""A process that works for the page. Its work comes in on stdin; what happens goes out on stdout, see `events`.

After the work, any line on stdin asks it to stop at the next occasion. The end of stdin ends it at once: the server is
gone. The server's side is `process`.
"""

import base64
import os
import pickle
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from kd_cli.app.bounds import TimeLimit
from kd_cli.app.events import Began, Evaluated, Event, Failed, Measured, Outcome, Progressed, Trained, encode
from kd_cli.commands.benchmark import benchmark
from kd_cli.commands.distill import distill
from kd_cli.commands.job import StudentConfig
from kd_cli.config import DataConfig, KdError, OutputConfig, RunConfig
from kd_cli.training import device, memory
from kd_cli.training.loop import REFRESH, Callback, DivergedError, Epoch, Training
from kd_cli.training.tally import Progress

NICENESS = 10
"""How far a training run steps back behind everything else: a visitor who draws goes first."""


class Server:
    """The server, as a worker sees it."""

    def __init__(self) -> None:
        # Whatever else writes to standard output, libraries in C among them, goes to stderr from here on.
        self._events = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        self.wants_stop = False

    def receive(self) -> "Work":
        """The work to do."""
        # Safe to unpickle: nobody but the server that started this process can write to its stdin.
        work: Work = pickle.loads(base64.b64decode(sys.stdin.readline()))  # noqa: S301
        return work

    def obey(self) -> None:
        """Wait for what the server says after that."""
        for _ in sys.stdin:
            self.wants_stop = True
        os._exit(130)

    def tell(self, event: Event) -> None:
        """Send an event."""
        print(encode(event), file=self._events, flush=True)


Work = Callable[[Server], Outcome]
"""Does something, tells the server about it meanwhile, and returns what came of it. It can be pickled."""


def main() -> None:
    """Do one piece of work."""
    server = Server()
    work = server.receive()
    threading.Thread(target=server.obey, daemon=True).start()
    try:
        outcome: Outcome = work(server)
    except KdError as error:
        outcome = Failed(str(error))
    except (MemoryError, RuntimeError) as error:
        if not device.is_out_of_memory(error):
            raise
        outcome = Failed("this machine has too little memory for that: choose a smaller student")
    server.tell(outcome)


def train(config: StudentConfig, output: Path, server: Server) -> Trained:
    """Train a student as `kd distill` does.

    Raises:
        KdError: as `distill`.
    """
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    memory.keep_freed_memory()
    try:
        # By force: a visitor may see what a network that learnt nothing does; the result says that it did not.
        result = distill(config, OutputConfig(output=output), force=True, callbacks=[TimeLimit(), Reporter(server)])
    except KdError as error:
        if isinstance(error.__cause__, DivergedError):  # a visitor has no --resume
            raise KdError(f"{error.__cause__}: use a smaller learning rate") from error
        raise
    return Trained(result)


def measure(paths: list[Path], data: DataConfig, run: RunConfig, server: Server) -> Measured:
    """Measure the cost of networks as `kd benchmark` does.

    Raises:
        KdError: as `benchmark`.
    """
    return Measured(benchmark(paths, data, run))


class Reporter(Callback):
    """Tells the server how a training run goes, and stops the run when the server wants it.

    Args:
        server: hears of it.
    """

    def __init__(self, server: Server) -> None:
        self.server = server

    def on_fit_begin(self, training: Training) -> None:
        """Tell how long the run is."""
        self.server.tell(Began(training.total_steps))

    def on_progress(self, training: Training, progress: Progress) -> None:
        """Tell the means over the latest steps."""
        self.server.tell(Progressed(training.steps_done, progress.loss, progress.accuracy))

    def on_epoch_end(self, training: Training, epoch: Epoch) -> None:
        """Tell the accuracy on the test set; stop the run if that is wanted."""
        if training.batches.steps_per_epoch < REFRESH:  # too short for `on_progress`
            self.server.tell(Progressed(training.steps_done, epoch.loss, epoch.accuracy))
        self.server.tell(Evaluated(training.steps_done, training.history[-1].accuracy))
        training.stop_requested = self.server.wants_stop
