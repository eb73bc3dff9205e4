"""What a run of a comparison on a cluster moves and keeps, and what it takes to find a kept one again.

    KD_DATA_DIR=data python -m tests.benchmarks.run_bytes

The run is the default one, on MNIST. The time to hash a file is what a machine takes to find out that it has it.
"""

import hashlib
import os
import pickle
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from kd_cli.cluster.shipping import describe
from kd_cli.cluster.worker import pack
from kd_cli.commands.cluster_runs import Relocation
from kd_cli.commands.grid import Cell
from kd_cli.commands.job import StudentConfig
from kd_cli.commands.resolve import resolve_student
from kd_cli.commands.results import RunMeasures
from kd_cli.commands.run_store import RunStore
from kd_cli.commands.runs import Run, RunOutcome, carry_out_run
from kd_cli.config import DataConfig
from kd_cli.distillation.methods import FROM_LABELS, MethodConfig
from kd_cli.networks.spec import parse_spec

RUNS = 300
MEASURES = RunMeasures(0, accuracy=0.98, error_count=200, agreement=0.98, nll=0.05, ece=0.01, train_seconds=4.2)


def milliseconds(work: Callable[[], object]) -> float:
    """The processor time of some work."""
    start = time.process_time()
    work()
    return 1000 * (time.process_time() - start)


def keep_all(store: RunStore, runs: list[Run]) -> None:
    """Keep runs as if they had come to an end."""
    for run in runs:
        store.keep(run, replace(MEASURES, seed=run.seed))


def main() -> None:
    """Measure, and print a line for each number."""
    data = DataConfig("mnist", Path(os.environ.get("KD_DATA_DIR", "data")))
    common = StudentConfig(parse_spec("mlp-128"), FROM_LABELS, data=data)
    job = resolve_student(common)
    assert job.dataset.file is not None  # it has been prepared
    relocation = Relocation(describe(job.dataset.file), tuple(describe(each.path) for each in job.teachers), (), ())
    runs = [Run(Cell(common.architecture, MethodConfig()), seed, common) for seed in range(RUNS)]
    print(f"sent to each machine, once: {sum(file.size for file in relocation.files):,} bytes")
    print(f"sent for a run: {len(pack(carry_out_run, relocation, runs[0])):,} bytes")
    print(f"sent back: {len(pickle.dumps(RunOutcome(MEASURES))):,} bytes")
    with tempfile.TemporaryDirectory() as folder:
        store = RunStore(Path(folder), job)
        keeping = milliseconds(lambda: keep_all(store, runs))
        finding = milliseconds(lambda: [store.find(run) for run in runs])
        size = next(Path(folder).rglob("*.json")).stat().st_size
    print(f"kept of a run: {size:,} bytes, in {keeping / RUNS:.1f} ms; found again in {finding / RUNS:.1f} ms")
    gigabyte = bytes(10**9)
    print(f"hashing: {milliseconds(lambda: hashlib.sha256(gigabyte).digest()) / 1000:.1f} s a GB")


if __name__ == "__main__":
    main()
