"""A comparison on a cluster of this machine: the table of a local one, whatever becomes of a worker."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from kd_cli.cluster.shipping import describe
from kd_cli.config import KdError
from tests.cluster.local import LocalCluster, computing, parent_of, start_cluster
from tests.conftest import ROOT, CommandLine

pytest.importorskip("distributed")

from kd_cli.cluster.connection import Cluster

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name != "posix", reason="signals of Unix")]

COMPARE = ("compare", "-d", "digits", "--students", "mlp-8", "--seeds", "3", "--fresh", "--json")
SHORT, LONG = ("-e", "10"), ("-e", "10000")
LOST = "lost the cluster at {}: what was finished is kept; start it again, and repeat the command"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the cluster's machine keeps what it is brought."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Iterator[LocalCluster]:
    with start_cluster(tmp_path_factory.mktemp("cluster"), KD_CACHE_DIR=str(cache)) as started:
        yield started


def read_table(output: str) -> list[Any]:
    """What all runs came to, but for the seconds that they took."""
    cells = json.loads(output)["cells"]
    return [{name: run[name] for name in run if name != "train_seconds"} for cell in cells for run in cell["runs"]]


def kept_runs() -> list[Path]:
    return sorted(Path("runs/results/digits").glob("*.json"))


def wait_until(what: Callable[[], object], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.1)


@contextmanager
def once(what: Callable[[], object], then: Callable[[], object]) -> Iterator[None]:
    """Do something in a thread as soon as a condition holds, while this one carries out a command."""

    def wait() -> None:
        wait_until(what)
        then()

    thread = threading.Thread(target=wait)
    thread.start()
    yield
    thread.join()


def test_the_table_is_that_of_local_runs(kd: CommandLine, cluster: LocalCluster) -> None:
    code, here, stderr = kd(*COMPARE, *SHORT, "--jobs", "1")
    assert code == 0, stderr
    names = kept_runs()
    code, there, stderr = kd(*COMPARE, *SHORT, "--scheduler", cluster.address)
    assert (code, stderr) == (0, "")
    assert read_table(there) == read_table(here)
    assert kept_runs() == names
    assert json.loads(there)["runs"]["side_by_side"] == 2


def test_a_worker_that_is_killed_costs_only_its_run(kd: CommandLine, cluster: LocalCluster) -> None:
    code, here, stderr = kd(*COMPARE, *SHORT, "--jobs", "1", "--results-dir", "here")
    assert code == 0, stderr
    with once(kept_runs, lambda: os.kill(parent_of(computing(cluster)[0]), signal.SIGKILL)):
        code, there, stderr = kd(*COMPARE, *SHORT, "--scheduler", cluster.address)
    assert (code, stderr) == (0, "")
    assert read_table(there) == read_table(here)


def test_ctrl_c_leaves_nothing_running(kd: CommandLine, cluster: LocalCluster) -> None:
    wait_until(lambda: not computing(cluster))  # those of other tests
    main = threading.main_thread().ident
    assert main is not None
    with once(lambda: has_started(cluster), lambda: signal.pthread_kill(main, signal.SIGINT)):
        code, _, stderr = kd(*COMPARE, *LONG, "--scheduler", cluster.address)
    assert code == 130
    assert stderr.startswith("kd: stopped; runs/results keeps 0 of 6 runs: repeat the command without --fresh")
    wait_until(lambda: not computing(cluster), 10)


def has_started(cluster: LocalCluster) -> bool:
    """Whether all processes of the cluster compute, rather than import what they need."""
    return len(computing(cluster)) == 2 and all(seconds_of(process) > 5 for process in computing(cluster))


def seconds_of(process: int) -> float:
    """The processor time that it has used."""
    fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_command_that_is_killed_leaves_nothing_running(cluster: LocalCluster, tmp_path: Path) -> None:
    wait_until(lambda: not computing(cluster))
    command = [sys.executable, "-m", "kd_cli", *COMPARE, *LONG, "--scheduler", cluster.address]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL) as process:
        wait_until(lambda: has_started(cluster))
        process.kill()
    wait_until(lambda: not computing(cluster), 30)


def test_a_scheduler_that_goes_is_one_line_and_the_rest_is_kept(kd: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "cluster").mkdir()
    with start_cluster(tmp_path / "cluster", workers=1) as mortal, once(kept_runs, mortal.scheduler.kill):
        code, _, stderr = kd(*COMPARE, *SHORT, "--scheduler", mortal.address)
    assert (code, stderr) == (1, f"kd: {LOST.format(mortal.address)}\n")
    assert 1 <= len(kept_runs()) < 6


def test_files_are_brought_once(cluster: LocalCluster, cache: Path, tmp_path: Path) -> None:
    path = tmp_path / "large.outputs.safetensors"
    path.write_bytes(os.urandom(2**25))
    file = describe(path, cached=True)
    with Cluster(cluster.address) as connection:
        connection.bring([file])
        assert (cache / path.name).read_bytes() == path.read_bytes()
        path.unlink()
        connection.bring([file])  # it is there


def test_a_machine_that_cannot_take_a_file_is_named(cluster: LocalCluster, cache: Path, tmp_path: Path) -> None:
    path = tmp_path / "folder.outputs.safetensors"
    path.write_bytes(b"content")
    (cache / path.name).mkdir()
    with (
        Cluster(cluster.address) as connection,
        pytest.raises(KdError, match=r"worker tcp://127.0.0.1:\d+: cannot write .*: it is a folder"),
    ):
        connection.bring([describe(path, cached=True)])


def test_a_scheduler_without_workers_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kd_cli.cluster.connection.WORKER_SECONDS", 0.5)
    with start_cluster(tmp_path, workers=1) as lonely:
        lonely.workers.terminate()
        lonely.workers.wait()
        with pytest.raises(KdError, match=f"the cluster at {lonely.address} has no worker: start some"):
            Cluster(lonely.address)
