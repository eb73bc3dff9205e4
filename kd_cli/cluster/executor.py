"""A cluster behind the interface of `concurrent.futures`."""

import contextlib
import os
from collections.abc import Callable
from concurrent.futures import CancelledError, Executor, Future, InvalidStateError
from functools import partial
from threading import Event, Thread
from typing import Any

from distributed import KilledWorker

from kd_cli.cluster import worker
from kd_cli.cluster.connection import Cluster
from kd_cli.training.processes import WorkerDiedError

POLL_SECONDS = 5

PATIENCE_SECONDS = 60
"""How long all workers may be away: those that a nanny starts again take seconds."""


class ClusterExecutor(Executor):
    """Carries out tasks on the machines of a cluster that have all files.

    A task whose worker dies is carried out by another one. If that happens several times, its future raises
    `WorkerDiedError`. If the scheduler goes, or all workers do, all futures raise `KdError`.

    Args:
        cluster: where.
        adapt: makes of a task what it is on the machine that carries it out; it can be pickled.
    """

    def __init__(self, cluster: Cluster, adapt: Callable[[Any], Any]) -> None:
        self._cluster, self._adapt = cluster, adapt
        machines = sorted(set(cluster.machines.values()))
        self._dask = cluster.client.get_executor(pure=False, retries=1, workers=machines)
        self._waiting: set[Future[Any]] = set()
        self._over = Event()
        Thread(target=self._watch, args=(machines,), daemon=True).start()

    def submit(self, fn, /, *args, **kwargs):  # type: ignore[no-untyped-def]
        """Have a function of one argument, the task, called on the cluster."""
        (task,) = args
        future: Future[Any] = Future()
        self._waiting.add(future)
        packed = worker.pack(fn, self._adapt, task)
        sent = self._dask.submit(worker.carry_out, packed, self._cluster.command, os.getcwd(), **kwargs)
        sent.add_done_callback(partial(self._hand_over, future))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Cancel what is being carried out, unless that is waited for; the processes that did it end."""
        self._over.set()
        with contextlib.suppress(Exception):  # a scheduler that is gone cannot be told
            self._dask.shutdown(wait and not cancel_futures)

    def _hand_over(self, future: "Future[Any]", sent: "Future[bytes]") -> None:
        self._waiting.discard(future)
        with contextlib.suppress(InvalidStateError):  # it has failed with all others
            try:
                future.set_result(worker.unpack(sent.result()))
            except CancelledError:
                future.set_exception(self._cluster.lost())
            except KilledWorker:
                future.set_exception(WorkerDiedError("its worker died, several times: is there enough memory?"))
            except Exception as error:
                future.set_exception(error)

    def _watch(self, machines: list[str]) -> None:
        """End the wait for workers that do not come back."""
        away = 0
        while not self._over.wait(POLL_SECONDS):
            try:
                there = self._cluster.list_workers().values()
            except Exception:  # a scheduler that is gone: Dask cancels the futures
                continue
            away = 0 if any(each["host"] in machines for each in there) else away + POLL_SECONDS
            if away >= PATIENCE_SECONDS:
                for future in list(self._waiting):
                    with contextlib.suppress(InvalidStateError):
                        future.set_exception(self._cluster.lost())
                return
