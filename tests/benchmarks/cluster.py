"""A comparison on a cluster of this machine against the same one without: seconds, and whether the tables are equal.

    python -m tests.benchmarks.cluster [--dataset mnist] [--epochs 1] [--seeds 12] [--workers 2] [--turns 3] [--kill]

Scheduler and workers are started as a user would, in processes of their own, before time is taken. Both sides take
turns, and carry out two runs for each seed, as many at a time as there are workers. ``--kill`` ends a worker of the
cluster in each turn, as if it had run out of memory. The last line is what a run costs beside its computing: tasks
that do nothing are carried out through the same executor.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from kd_cli.cluster.connection import Cluster
from kd_cli.cluster.executor import ClusterExecutor
from kd_cli.training.processes import carry_out
from tests.cluster.local import LocalCluster, computing, parent_of, start_cluster
from tests.training import tasks

EMPTY_TASKS = 500


def compare(options: argparse.Namespace, folder: Path, *more: str, cluster: LocalCluster | None = None) -> Any:
    """Seconds that a comparison takes, and its table without the seconds in it."""
    command = [sys.executable, "-m", "kd_cli", "compare", "--json", "--fresh", "--dataset", options.dataset]
    command += ["--epochs", str(options.epochs), "--seeds", str(options.seeds), "--results-dir", str(folder)]
    started = time.monotonic()
    with subprocess.Popen([*command, *more], stdout=subprocess.PIPE, text=True) as process:
        if cluster:
            while not any(folder.rglob("*.json")):  # until the first run has ended
                time.sleep(0.05)
            os.kill(parent_of(computing(cluster)[0]), signal.SIGKILL)
        output, _ = process.communicate()
    seconds = time.monotonic() - started
    cells = json.loads(output)["cells"]
    runs = [{name: run[name] for name in run if name != "train_seconds"} for cell in cells for run in cell["runs"]]
    return seconds, runs


def measure_empty(connection: Cluster, workers: int) -> float:
    """Milliseconds between the outcomes of tasks that do nothing."""
    outcomes = carry_out(
        range(EMPTY_TASKS + 50), tasks.double, workers, lambda _: ClusterExecutor(connection, tasks.identity)
    )
    for _ in range(50):  # until all processes have started
        next(outcomes)
    started = time.monotonic()
    count = len(list(outcomes))
    return 1000 * (time.monotonic() - started) / count


def main() -> None:
    """Measure, and print medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="mnist")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=12)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--kill", action="store_true")
    options = parser.parse_args()
    here, there, equal = [], [], True
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch) / "cluster"
        place.mkdir()
        with start_cluster(place, options.workers) as cluster:
            with Cluster(cluster.address) as connection:
                connection.client.wait_for_workers(options.workers, 60)
                empty = measure_empty(connection, options.workers)
            for turn in range(options.turns):
                jobs = ("--jobs", str(options.workers))
                local, table = compare(options, Path(scratch) / f"here-{turn}", *jobs)
                where, victim = ("--scheduler", cluster.address), cluster if options.kill else None
                remote, other = compare(options, Path(scratch) / f"there-{turn}", *jobs, *where, cluster=victim)
                here.append(local)
                there.append(remote)
                equal = equal and table == other
    ratio = statistics.median(there) / statistics.median(here)
    print(f"{2 * options.seeds} runs, {options.workers} at a time, seconds (median of {options.turns} turns)")
    print(f"without a cluster: {statistics.median(here):.1f}")
    print(f"on the cluster: {statistics.median(there):.1f}, {ratio:.2f} of that; the same table: {equal}")
    print(f"a task that does nothing: {empty:.1f} ms")


if __name__ == "__main__":
    main()
