"""What runs in a worker of Dask: each task in a process of its own, which can be ended at any moment.

A thread cannot be stopped, and two trainings in one process would share torch's random state and number of threads. So
the worker itself does not compute: it starts a process for each of its threads, and never imports torch.
"""

import contextlib
import multiprocessing
import os
import pickle
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, wait
from threading import Lock
from typing import Any

from kd_cli.training.processes import WorkerDiedError, process_executor, shut_down

POLL_SECONDS = 0.2
"""How often a worker looks whether its task is still wanted."""

IDLE_SECONDS = 20
"""After so long without a task, a process ends, and lets go of its data."""

_idle: dict[str, list[Executor]] = {}
_lock = Lock()


def pack(work: Callable[[Any], Any], adapt: Callable[[Any], Any], task: Any) -> bytes:
    """A task as bytes, which neither the scheduler nor the worker looks into: they would have to import torch."""
    return pickle.dumps((work, adapt, task))


def unpack(outcome: bytes) -> Any:
    """What `carry_out` brought back. Members of a cluster trust each other: to unpickle may be to run code."""
    return pickle.loads(outcome)  # noqa: S301


def carry_out(task: bytes, command: str, folder: str) -> bytes:
    """Carry out a task, of `pack`, in a process of its own.

    Args:
        task: what to do.
        command: tells the command whose task it is from others; each has its own processes.
        folder: where the command was given. The task is carried out there if this machine has such a folder, so that
            paths mean the same.

    Raises:
        WorkerDiedError: the process died.
        BaseException: whatever the task raises.
    """
    is_wanted = _watch_task()
    process, done = _take_process(command), False
    try:
        future = process.submit(_carry_out_packed, task, folder)
        while not wait([future], POLL_SECONDS).done:
            if not is_wanted():
                raise WorkerDiedError("its task was cancelled")
        outcome = future.result()
        done = True
        return outcome
    except BrokenExecutor as error:
        raise WorkerDiedError("its process died: is there enough memory?") from error
    finally:
        if done:
            with _lock:
                _idle.setdefault(command, []).append(process)
        else:
            shut_down(process)


def _carry_out_packed(task: bytes, folder: str) -> bytes:
    with contextlib.suppress(OSError):  # another machine may have no such folder
        os.chdir(folder)
    work, adapt, given = pickle.loads(task)  # noqa: S301  (see `unpack`)
    return pickle.dumps(work(adapt(given)))


def _watch_task() -> Callable[[], bool]:
    """What tells whether this thread's task is still to be carried out."""
    from distributed import get_worker

    worker = get_worker()
    key = worker.get_current_task()

    def is_wanted() -> bool:
        task = worker.state.tasks.get(key)
        wanted = task is not None and task.state in ("executing", "long-running")
        return wanted and worker.status.name not in ("closing", "closed", "failed")

    return is_wanted


def _take_process(command: str) -> Executor:
    """A process of this command; those of others that have nothing to do end."""
    with _lock:
        others = [_idle.pop(other) for other in list(_idle) if other != command]
        own = _idle.get(command)
        process = own.pop() if own else None
    for each in (process for processes in others for process in processes):
        shut_down(each)
    if process is None:
        multiprocessing.current_process().daemon = False  # Dask's nanny makes it one, which may have no children
        process = process_executor(1, IDLE_SECONDS)
    return process
