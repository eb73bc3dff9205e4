"""A comparison on a cluster of this machine: the table of a local one, whatever becomes of a worker."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kd_cli.cluster.shipping import describe
from kd_cli.config import KdError
from tests.cluster.local import LocalCluster, computing, parent_of, start_cluster
from tests.conftest import ROOT, CommandLine, hear_interrupts

pytest.importorskip("distributed")

from kd_cli.cluster.connection import Cluster

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name != "posix", reason="signals of Unix")]

COMPARE = ("compare", "-d", "digits", "--students", "mlp-8,mlp-16", "--seeds", "2", "--fresh", "--json")
LOST = "lost the cluster at {}: what was finished is kept; start it again, and repeat the command"
SHORT, LONG = ("-e", "2"), ("-e", "1000")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the cluster's machine keeps what it is brought."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Iterator[LocalCluster]:
    with start_cluster(tmp_path_factory.mktemp("cluster"), KD_CACHE_DIR=str(cache)) as started:
        yield started


def read_table(output: str) -> dict[str, Any]:
    """A result without the seconds that runs took, and how many were carried out at a time."""
    result: dict[str, Any] = json.loads(output)
    del result["runs"]
    for cell in result["cells"]:
        for run in cell["runs"]:
            del run["train_seconds"]
        for statistic in ("mean", "std"):
            cell[statistic].pop("train_seconds", None)
    return result


def start(folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    """A command in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "kd_cli", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=hear_interrupts,
    )


def wait_until(what: Any, seconds: float = 40) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.1)


def test_the_table_is_that_of_local_runs(kd: CommandLine, cluster: LocalCluster) -> None:
    code, here, stderr = kd(*COMPARE, *SHORT, "--jobs", "2")
    assert code == 0, stderr
    code, there, stderr = kd(*COMPARE, *SHORT, "--scheduler", cluster.address)
    assert (code, stderr) == (0, "")
    assert read_table(there) == read_table(here)
    kept = sorted(Path("runs/results/digits").iterdir())
    assert len(kept) == 8  # the same files: those of the second command replaced those of the first
    assert json.loads(there)["runs"]["side_by_side"] == 2


def test_a_worker_that_is_killed_costs_only_its_run(kd: CommandLine, cluster: LocalCluster, tmp_path: Path) -> None:
    options = (*COMPARE, "-e", "30", "--scheduler", cluster.address)
    code, expected, stderr = kd(*options)
    assert code == 0, stderr
    with start(tmp_path, *options) as command:
        wait_until(lambda: any(tmp_path.glob("runs/results/digits/*-seed0-*.json")))
        victim = parent_of(computing(cluster)[0])
        os.kill(victim, signal.SIGKILL)
        output, errors = command.communicate(timeout=60)
    assert (command.returncode, errors) == (0, "")
    assert read_table(output) == read_table(expected)


def test_ctrl_c_leaves_nothing_running(cluster: LocalCluster, tmp_path: Path) -> None:
    wait_until(lambda: not computing(cluster))  # those of the other tests
    with start(tmp_path, *COMPARE, *LONG, "--scheduler", cluster.address) as command:
        wait_until(lambda: len(computing(cluster)) == 2)
        time.sleep(2)
        command.send_signal(signal.SIGINT)
        _, errors = command.communicate(timeout=30)
    assert command.returncode == 130
    assert errors.startswith("kd: stopped; runs/results keeps 0 of 8 runs: repeat the command without --fresh")
    wait_until(lambda: not computing(cluster), 5)


def test_a_command_that_is_killed_leaves_nothing_running(cluster: LocalCluster, tmp_path: Path) -> None:
    with start(tmp_path, *COMPARE, *LONG, "--scheduler", cluster.address) as command:
        wait_until(lambda: len(computing(cluster)) == 2)
        time.sleep(2)
        command.kill()
    wait_until(lambda: not computing(cluster), 10)


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


def test_a_scheduler_that_goes_is_one_line_and_the_rest_is_kept(tmp_path: Path) -> None:
    (tmp_path / "cluster").mkdir()
    with start_cluster(tmp_path / "cluster", workers=1) as mortal:
        options = (*COMPARE[:-2], "-e", "30", "--scheduler", mortal.address)
        with start(tmp_path, *options) as command:
            wait_until(lambda: any(tmp_path.glob("runs/results/digits/*.json")))
            mortal.scheduler.kill()
            _, errors = command.communicate(timeout=60)
    assert command.returncode == 1
    assert errors == f"kd: {LOST.format(mortal.address)}\n"
