"""Tasks carried out side by side, through the interface of `concurrent.futures`."""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from functools import partial
from inspect import signature
from typing import TypeVar

from tqdm import tqdm

from kd_cli.training.memory import keep_freed_memory

Task = TypeVar("Task")
Outcome = TypeVar("Outcome")

MakeExecutor = Callable[[int], Executor]
"""A number of workers -> an executor with that many."""


class WorkerDiedError(Exception):
    """The process that carried out a task died, twice."""


class InProcess(Executor):
    """Carries out each task in this process, when it is submitted."""

    def submit(self, fn, /, *args, **kwargs):  # type: ignore[no-untyped-def]
        """Carry out a call now."""
        future: Future[object] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


def local_executor(workers: int) -> Executor:
    """This process for one worker, else as many processes of this machine, which end with this one."""
    return InProcess() if workers == 1 else process_executor(workers)


def process_executor(workers: int, idle_seconds: float | None = None) -> Executor:
    """Processes of this machine, which end with this one, and after ``idle_seconds`` with nothing to do."""
    from joblib.externals.loky import ProcessPoolExecutor

    executor: Executor = ProcessPoolExecutor(
        workers, timeout=idle_seconds, initializer=_start_worker, initargs=(os.getpid(),)
    )
    return executor


def carry_out(
    tasks: Iterable[Task],
    work: Callable[[Task], Outcome],
    workers: int,
    make_executor: MakeExecutor = local_executor,
) -> Iterator[tuple[Task, Outcome | WorkerDiedError]]:
    """Carry out tasks side by side, and hand over each outcome as it comes.

    If a worker dies (out of memory, say), the tasks that were being carried out are tried once more, each by itself: so
    no task can take others down, or be blamed for what another one did.

    Args:
        tasks: what to do; the results may come in another order.
        work: does it, in a worker; both can be pickled. It raises nothing that is to be expected.
        workers: how many tasks to carry out at a time.
        make_executor: where. An executor may try again by itself: where its future raises `WorkerDiedError`, that task
            alone has failed.
    """
    rounds = iter([list(tasks)])
    return carry_out_rounds(lambda: next(rounds, []), work, workers, make_executor)


def carry_out_rounds(
    next_tasks: Callable[[], Sequence[Task]],
    work: Callable[[Task], Outcome],
    workers: int,
    make_executor: MakeExecutor = local_executor,
) -> Iterator[tuple[Task, Outcome | WorkerDiedError]]:
    """As `carry_out`, for tasks that follow from the outcomes of others.

    Args:
        next_tasks: gives those that can be carried out by now, each of them once. It is asked when a worker has nothing
            to do, and for the last time when none has.
        work: as there.
        workers: as there.
        make_executor: as there.
    """
    while suspects := (yield from _carry_out_together(next_tasks, work, workers, make_executor)):
        for suspect in suspects:
            alone = iter([[suspect]])
            again = _carry_out_together(partial(next, alone, []), work, 1 if workers == 1 else 2, make_executor)
            if (yield from again):
                yield suspect, WorkerDiedError("its process died, twice: is there enough memory? try --jobs 1")


def _carry_out_together(
    next_tasks: Callable[[], Sequence[Task]], work: Callable[[Task], Outcome], workers: int, make_executor: MakeExecutor
) -> Generator[tuple[Task, Outcome | WorkerDiedError], None, list[Task]]:
    """Carry out tasks; returns those that were being carried out when a worker died."""
    waiting = list(reversed(next_tasks()))
    suspects: list[Task] = []
    while waiting:
        executor = make_executor(workers)
        running: dict[Future[Outcome], Task] = {}
        try:
            while waiting or running:
                while waiting and len(running) < workers:
                    running[executor.submit(work, waiting[-1])] = waiting[-1]
                    waiting.pop()  # only now: the executor may refuse
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    outcome = _wait_for(future)
                    yield running.pop(future), outcome
                waiting = waiting or list(reversed(next_tasks()))
        except BrokenExecutor:
            suspects += running.values()
        finally:
            shut_down(executor)
    return suspects


def _wait_for(future: "Future[Outcome]") -> Outcome | WorkerDiedError:
    """What a task came to. An executor that tries again by itself says in the end that a worker died."""
    try:
        return future.result()
    except WorkerDiedError as error:
        return error


def shut_down(executor: Executor) -> None:
    """Let go of an executor, and end the workers of one that knows how to; never another process."""
    kind = "kill_workers" if "kill_workers" in signature(executor.shutdown).parameters else "cancel_futures"
    executor.shutdown(wait=False, **{kind: True})  # the former is loky's


def _start_worker(parent: int) -> None:
    """Prepare a fresh worker."""
    keep_freed_memory()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asked for the tasks
    logging.getLogger("kd_cli").setLevel(logging.ERROR)  # that process has given the notices about the job
    tqdm.set_lock(threading.RLock())  # else a lock between processes, which is missed at the end
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    """End this process with the one that started it, even if that was killed."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
