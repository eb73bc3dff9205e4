"""Work for workers of the page: functions that a process can import by their names."""

import os
import time

from kd_cli.app.events import Evaluated, Failed, Outcome, Trained
from kd_cli.app.worker import Server
from kd_cli.config import KdError
from tests.report.results import training_result


def succeed(server: Server) -> Outcome:
    server.tell(Evaluated(1, 0.5))
    return Trained(training_result())


def print_meanwhile(server: Server) -> Outcome:
    """What Python prints, and what a library in C prints, is not in the way of events, even on the same line."""
    print("from Python", end="", flush=True)
    os.write(1, b"from C")
    return succeed(server)


def fail(server: Server) -> Outcome:
    raise KdError("no such teacher")


def run_out_of_memory(server: Server) -> Outcome:
    raise MemoryError


def die(server: Server) -> Outcome:
    os._exit(1)


def wait_for_stop(server: Server) -> Outcome:
    while not server.wants_stop:
        time.sleep(0.01)
    return Failed("asked to stop")
