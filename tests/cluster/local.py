"""A cluster on this machine, started as a user would: a scheduler and workers, in processes of their own."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import ROOT

START_SECONDS = 60


@dataclass(frozen=True)
class LocalCluster:
    """A scheduler, its workers, and how many there should be."""

    address: str
    scheduler: "subprocess.Popen[bytes]"
    workers: "subprocess.Popen[bytes]"


@contextmanager
def start_cluster(folder: Path, workers: int = 2, **variables: str) -> Iterator[LocalCluster]:
    """A cluster whose workers have a thread each, for as long as it is needed.

    Args:
        folder: an empty one, where the cluster is started.
        workers: how many.
        variables: of the environment, for the cluster.
    """
    about = folder / "scheduler.json"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | variables
    common = ["--scheduler-file", str(about), "--no-dashboard"]
    with ExitStack() as stack:

        def start(*arguments: str) -> "subprocess.Popen[bytes]":
            command = [sys.executable, "-m", "dask", *arguments, *common]
            log = stack.enter_context(open(folder / f"{arguments[0]}.log", "wb"))
            process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
            stack.callback(_end, process)
            return process

        scheduler = start("scheduler", "--host", "127.0.0.1", "--port", "0")
        started = start("worker", "--nworkers", str(workers), "--nthreads", "1", "--local-directory", str(folder))
        yield LocalCluster(_read_address(about), scheduler, started)


def processes_below(process: int) -> list[int]:
    """The processes that a process has started, and those that they have."""
    children: dict[int, list[int]] = {}
    for about in Path("/proc").glob("[0-9]*/stat"):
        try:
            _, rest = about.read_text().rsplit(")", 1)
        except OSError:  # it has just ended
            continue
        children.setdefault(int(rest.split()[1]), []).append(int(about.parent.name))
    found = children.get(process, [])
    return found + [below for child in found for below in processes_below(child)]


def computing(cluster: LocalCluster) -> list[int]:
    """The processes that carry out runs: loky's, below Dask's workers."""
    found = []
    for process in processes_below(cluster.workers.pid):
        try:
            if b"loky.backend.popen_loky" in Path(f"/proc/{process}/cmdline").read_bytes():
                found.append(process)
        except OSError:
            continue
    return found


def parent_of(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[1])


def _read_address(file: Path) -> str:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        try:
            return str(json.loads(file.read_text())["address"])
        except (OSError, ValueError):  # not there yet, or half written
            time.sleep(0.05)
    raise TimeoutError(f"no scheduler has written {file}")


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
