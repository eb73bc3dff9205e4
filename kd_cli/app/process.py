"""Work in a process of its own, as the server sees it; the other side is `worker`."""

import base64
import contextlib
import pickle
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable

from kd_cli.app.events import Event, Failed, Outcome, decode
from kd_cli.app.worker import Work
from kd_cli.config import KdError

COMMAND = [sys.executable, "-c", "from kd_cli.app import worker; worker.main()"]
"""Not ``-m``: there, what is pickled by its name would be in another module than the one that runs."""


_started: "weakref.WeakSet[Process]" = weakref.WeakSet()

_ending = threading.Event()


def end_all() -> None:
    """End all workers at once, and those that start from now on: the server ends."""
    _ending.set()
    for process in list(_started):
        process.kill()


class Process:
    """Starts a worker, and hands over its events as they come.

    Args:
        work: what it does.
        hear: called with each event, in a thread of its own. The last event is the work's outcome; `Failed` stands in
            for it where the process ends without one.
        command: starts the worker.
    """

    def __init__(self, work: Work, hear: Callable[[Event], None], command: list[str] = COMMAND) -> None:
        self._hear = hear
        # In a session of its own, Ctrl-C on the server's terminal does not reach it: the server ends it.
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
        _started.add(self)
        if _ending.is_set():
            self.kill()
        self._say(base64.b64encode(pickle.dumps(work)).decode())
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    @property
    def running(self) -> bool:
        """Whether there is more to come."""
        return self._listener.is_alive()

    def stop(self) -> None:
        """Ask it to stop at the next occasion."""
        self._say("stop")

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()

    def wait(self, seconds: float) -> None:
        """Wait until it has ended, but not longer than that."""
        self._listener.join(seconds)

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError, ValueError):  # it has ended already
            print(line, file=self._process.stdin, flush=True)

    def _listen(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        event: Event | None = None
        for line in self._process.stdout:
            heard = decode(line)
            if heard is not None:
                event = heard
                self._hear(heard)
        if not isinstance(event, Outcome):
            self._hear(Failed("ended before it was done; nothing was kept"))
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):  # what it was told last never arrived
                pipe.close()


def carry_out(work: Work, seconds: float, command: list[str] = COMMAND) -> Outcome:
    """Have work done in a process of its own, and wait for it, but not longer than that.

    Raises:
        KdError: it failed, or took too long and was ended.
    """
    heard: list[Event] = []
    process = Process(work, heard.append, command)
    process.wait(seconds)
    if process.running:
        process.kill()
        raise KdError(f"no result after {seconds:g} seconds: try again when this machine has less to do")
    outcome = heard[-1]
    assert isinstance(outcome, Outcome)
    if isinstance(outcome, Failed):
        raise KdError(outcome.message)
    return outcome
