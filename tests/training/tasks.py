"""Tasks for workers, in a module that a worker imports quickly."""

import logging
import os
import time
from pathlib import Path


def double(number: int) -> int:
    """Also the way to see that a task has come through."""
    return 2 * number


def double_slowly(number: int) -> int:
    """Takes long enough for another task to end meanwhile."""
    time.sleep(0.3)
    return 2 * number


def name_process(_: int) -> int:
    """The process that works."""
    return os.getpid()


def die_at_three(number: int) -> int:
    """As if out of memory."""
    if number == 3:
        os._exit(1)
    return double_slowly(number)


def die_alone(number: int) -> int:
    """Every task is deadly."""
    os._exit(number)


def die_once(marker: Path) -> str:
    """Die the first time."""
    if not marker.exists():
        marker.touch()
        os._exit(1)
    return "done"


def fail(number: int) -> int:
    """An error that nobody foresaw."""
    raise ZeroDivisionError(number)


def write_name_and_stay(folder: Path) -> None:
    """Never come to an end."""
    (folder / str(os.getpid())).touch()
    time.sleep(600)


def return_at_once_or_stay(folder: Path | None) -> None:
    """Come to an end only where there is no folder."""
    if folder is not None:
        write_name_and_stay(folder)


def give_notice(number: int) -> int:
    """What the process that asked for the task has said already."""
    logging.getLogger("kd_cli").warning("notice %d", number)
    return number


def identity(task: object) -> object:
    """Leave a task as it is."""
    return task
