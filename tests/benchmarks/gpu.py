"""Both MNIST trainings, teacher and student, on a GPU: step by step, and as CUDA graphs.

    python -m tests.benchmarks.gpu [--epochs 5] [--rounds 3]

The bar is 2 s for both trainings, 5 epochs each, on one H100. Launching kernels is most of a step of networks this
small; ``--compile`` records each step's network as a CUDA graph, which is launched as one. The two ways take turns,
each time in a process of its own. "Training" is the sum of all epochs; the first one has the compiler's work in it, and
"epoch after the first" has not.
"""

import argparse
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import NamedTuple

import torch
from rich.console import Console
from rich.table import Table

from kd_cli.commands.distill import distill
from kd_cli.commands.job import StudentConfig
from kd_cli.commands.train_teacher import train_teacher
from kd_cli.config import DataConfig, DeviceName, RunConfig, TrainingConfig
from kd_cli.networks.spec import parse_spec
from kd_cli.training import device

BAR_SECONDS = 2.0
"""For both trainings of 5 epochs, on an H100."""


class Measured(NamedTuple):
    """Of both trainings together: seconds, those of an epoch after the first, and the test accuracies."""

    training: float
    later_epoch: float
    accuracies: tuple[float, float]


def train_both(data_dir: Path, epochs: int, compiled: bool) -> Measured:
    """Teacher and student as the commands train them, in an empty folder."""
    training = TrainingConfig(epochs=epochs, compile=compiled)
    with tempfile.TemporaryDirectory() as models_dir:
        data, run = DataConfig("mnist", data_dir), RunConfig(Path(models_dir), DeviceName.cuda)
        teacher = train_teacher(parse_spec("cnn-32"), data, training, run)
        student = distill(StudentConfig(parse_spec("mlp-128"), data=data, training=training, run=run))
    both = teacher, student
    later = sum(median(epoch.seconds for epoch in each.history[1:]) for each in both)
    return Measured(sum(each.train_seconds for each in both), later, (teacher.accuracy, student.accuracy))


def apart(data_dir: Path, epochs: int, compiled: bool) -> Measured:
    """The same in a new process."""
    with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as process:
        return process.submit(train_both, data_dir, epochs, compiled).result()


def main() -> None:
    """Let the two ways take turns, and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if options.epochs < 2:
        parser.error("--epochs: use 2 or more, as the first one is apart")
    start = time.perf_counter()
    where = device.describe(device.select(DeviceName.cuda))[1]
    data_dir = Path(os.environ.get("KD_DATA_DIR", "data"))
    ways: dict[str, list[Measured]] = {"step by step": [], "--compile": []}
    for _ in range(options.rounds):
        for way, runs in ways.items():
            runs.append(apart(data_dir, options.epochs, way == "--compile"))
    table = Table(
        title=f"cnn-32 and mlp-128 on MNIST, {options.epochs} epochs each", caption=f"{where}, {torch.__version__}"
    )
    table.add_column("")
    for column in ("Training of both (s)", "Epoch after the first (s)", "Teacher accuracy", "Student accuracy"):
        table.add_column(column, justify="right")
    for way, runs in ways.items():
        times = [
            f"{median(values):.2f}" for values in ([run.training for run in runs], [run.later_epoch for run in runs])
        ]
        table.add_row(way, *times, *(f"{accuracy:.2%}" for accuracy in runs[0].accuracies))
    console = Console(width=110)
    console.print(table)
    best = min(median(run.training for run in runs) for runs in ways.values())
    console.print(f"The better way takes {best:.2f} s; the bar on an H100 is {BAR_SECONDS:.0f} s.")
    console.print(f"All of it took {time.perf_counter() - start:.0f} s.")


if __name__ == "__main__":
    main()
