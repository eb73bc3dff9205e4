"""A Dask cluster, as a command finds it: reached, of the same versions, and with all files that the tasks need."""

import logging
import os
import platform
import secrets
import warnings
from asyncio import TimeoutError as AsyncTimeoutError
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any

from tqdm import tqdm

from kd_cli.cluster import shipping, worker
from kd_cli.cluster.shipping import CHUNK, SharedFile
from kd_cli.config import KdError
from kd_cli.training.processes import WorkerDiedError

try:
    from distributed import Client, KilledWorker
except ImportError as error:
    raise KdError("--scheduler needs Dask: pip install 'kd-cli[cluster]'") from error

CONNECT_SECONDS = 5
"""How long a scheduler may take to answer."""

WORKER_SECONDS = 10
"""How long the first worker may take to come: it may have been started just before the command."""

SAME_EVERYWHERE: tuple[str, ...] = ("distributed", "kd-cli")
"""Packages of which the scheduler needs the same version: it unpickles the names of functions."""

SAME_ON_WORKERS = (*SAME_EVERYWHERE, "torch")


class Cluster:
    """A connection to a cluster, which ends with the block that it is used in.

    Args:
        address: the scheduler's, e.g. ``tcp://10.0.0.1:8786``.

    Attributes:
        address: likewise.
        client: Dask's.
        command: tells this command from others of the same cluster.
        machines: the addresses of the workers that are there -> the machines that they are on.
        threads: how many tasks these carry out at a time.

    Raises:
        KdError: no scheduler or worker is there, or one has other versions.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.client = _connect(address)
        self.command = secrets.token_hex(8)
        try:
            workers = self._find_workers()
            _require_same_versions(self.client.get_versions(packages=list(SAME_ON_WORKERS)))
        except BaseException:
            self.close()
            raise
        self.machines = {name: str(each["host"]) for name, each in workers.items()}
        self.threads = sum(int(each["nthreads"]) for each in workers.values())

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the cluster; tasks that are still carried out for this command are cancelled."""
        with suppress(Exception):  # a scheduler that is gone cannot be told
            self.client.close(CONNECT_SECONDS)

    def lost(self) -> KdError:
        """What to say when the scheduler, or the last worker, is gone."""
        return KdError(
            f"lost the cluster at {self.address}: what was finished is kept; start it again, and repeat the command"
        )

    def list_workers(self) -> dict[str, dict[str, Any]]:
        """The workers that are there now, by address: Dask's own description of each.

        Raises:
            OSError: the scheduler is gone.
        """
        # Not `scheduler_info`: the client's regular look at the scheduler may empty it in between.
        scheduler: Any = self.client.scheduler
        return dict(self.client.sync(scheduler.identity, n_workers=-1)["workers"])

    def bring(self, files: Sequence[SharedFile]) -> None:
        """Bring files to the machines that have not got them.

        Raises:
            KdError: a machine cannot write one.
        """
        first = {machine: name for name, machine in reversed(self.machines.items())}
        missing = self._ask_each(first.values(), shipping.list_missing, tuple(files))
        for number, file in enumerate(files):
            receivers = [name for name, numbers in missing.items() if number in numbers]
            if receivers:
                self._send(file, receivers)

    def require_ready(self, work: Callable[[Any], str | None], adapt: Callable[[Any], Any], task: Any) -> None:
        """Let every worker carry out a task that says what its machine lacks, if anything.

        Raises:
            KdError: names a worker, and what it said.
        """
        packed = worker.pack(work, adapt, task)
        answers = self._ask_each(self.machines, worker.carry_out, packed, self.command, os.getcwd())
        for name, answer in answers.items():
            if error := worker.unpack(answer):
                raise KdError(f"worker {name}: {error}")

    def _send(self, file: SharedFile, receivers: list[str]) -> None:
        transfer = secrets.token_hex(4)
        title = f"sending {file.path.name}"
        bar = tqdm(total=file.size, desc=title, unit="B", unit_scale=True, leave=False, disable=None)
        with bar, open(file.path, "rb") as source:
            for start in range(0, max(1, file.size), CHUNK):
                content = source.read(CHUNK)
                with self._errors_of(", ".join(receivers)):
                    self.client.run(shipping.receive, file, transfer, start, content, workers=receivers)
                bar.update(len(content))

    def _ask_each(self, names: Iterable[str], function: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
        """What a function gives on each of these workers, side by side."""
        futures = {
            name: self.client.submit(function, *arguments, workers=[name], pure=False, retries=1) for name in names
        }
        answers = {}
        for name, future in futures.items():
            with self._errors_of(name):
                answers[name] = future.result()
        return answers

    @contextmanager
    def _errors_of(self, workers: str) -> Iterator[None]:
        try:
            yield
        except (KdError, WorkerDiedError) as error:
            raise KdError(f"worker {workers}: {error}") from error
        except (KilledWorker, CancelledError, OSError, AsyncTimeoutError) as error:
            raise self.lost() from error

    def _find_workers(self) -> dict[str, dict[str, Any]]:
        try:
            self.client.wait_for_workers(1, WORKER_SECONDS)
        except AsyncTimeoutError as error:
            raise KdError(
                f"the cluster at {self.address} has no worker: start some, e.g. dask worker {self.address}"
            ) from error
        return self.list_workers()


def _connect(address: str) -> Client:
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what goes wrong is said in our own lines
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # other versions are refused later
        try:
            return Client(address, timeout=CONNECT_SECONDS, set_as_default=False, name="kd")
        except Exception as error:  # a server of another kind may answer anything
            raise KdError(
                f"no scheduler answers at {address}: check the address, or start one with dask scheduler"
            ) from error


def _require_same_versions(found: Any) -> None:
    """Refuse a cluster that might compute something else, or fail to understand what it is told.

    Args:
        found: as `Client.get_versions` gives them.

    Raises:
        KdError: names what is different where.
    """
    own = found["client"]["packages"]
    others = [("the scheduler", found["scheduler"], SAME_EVERYWHERE)]
    others += [(f"worker {name}", each, SAME_ON_WORKERS) for name, each in found["workers"].items()]
    for name, about, packages in others:
        for package in packages:
            version = about["packages"].get(package)
            if version != own[package]:
                raise KdError(
                    f"{name} has {package} {version or '(none)'}, and this command {own[package]}: "
                    "install the same versions everywhere"
                )
        if about["host"]["python"].split(".")[:2] != list(platform.python_version_tuple()[:2]):
            raise KdError(
                f"{name} runs Python {about['host']['python']}, and this command {platform.python_version()}: "
                "use the same version everywhere"
            )
