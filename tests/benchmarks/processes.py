"""One process with two threads against two processes with one thread each, which torchrun starts.

    python tests/benchmarks/processes.py throughput JOB [--rounds 3]
    python tests/benchmarks/processes.py accuracy JOB [--seeds 3]
    python tests/benchmarks/processes.py kill JOB [--moments 10]

JOB are the arguments of a command of kd, after ``--``: ``-- distill --dataset mnist --epochs 5``. Each run has a folder
of its own for what it writes.

* ``throughput``: the two take turns. Time is that of the whole command, with imports, the teacher's outputs (in an
  empty cache) and evaluation; and that of the epochs alone. Ratios are medians over the rounds.
* ``accuracy``: test accuracies of both with the same seeds.
* ``kill``: one of the two processes gets SIGKILL at moments spread evenly over the run; the same command with
  ``--resume`` then goes on, in turn as one process and as two. Accuracies are compared with that of a run that nothing
  interrupted.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median

from rich.console import Console
from rich.table import Table

LONGEST_WAIT = 60.0
"""Seconds in which a run has to end once one of its processes was killed."""


@dataclass(frozen=True)
class Run:
    """What a run came to: test accuracy, seconds of its epochs, and seconds of the whole command."""

    accuracy: float
    train_seconds: float
    seconds: float


def command_of(processes: int, job: list[str]) -> list[str]:
    """The command that runs a job as so many processes."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    return [sys.executable, *(launcher if processes > 1 else []), "-m", "kd_cli", *job, "--json"]


def environment_of(processes: int, cache: Path) -> dict[str, str]:
    """Two threads for one process, one thread for each of two."""
    return os.environ | {"OMP_NUM_THREADS": str(2 // processes), "KD_CACHE_DIR": str(cache)}


def carry_out(processes: int, job: list[str], cache: Path | None = None) -> Run:
    """A run in a folder of its own; in an empty cache, unless one is given."""
    with tempfile.TemporaryDirectory() as folder:
        job = [*job, "--output", f"{folder}/network.safetensors"]
        start = time.perf_counter()
        done = subprocess.run(
            command_of(processes, job),
            env=environment_of(processes, cache or Path(folder) / "cache"),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            check=True,
        )
        took, result = time.perf_counter() - start, json.loads(done.stdout)
    return Run(result["accuracy"], result["train_seconds"], took)


def measure_throughput(job: list[str], rounds: int) -> Table:
    """Whole commands and epochs, one process against two."""
    runs = [(carry_out(1, job), carry_out(2, job)) for _ in range(rounds)]
    table = Table("", "1 process, 2 threads (s)", "2 processes, 1 thread (s)", "throughput of 2 / 1")
    for name in ("seconds", "train_seconds"):
        pairs = [(getattr(one, name), getattr(two, name)) for one, two in runs]
        medians = [median(each) for each in zip(*pairs, strict=True)]
        ratio = median(one / two for one, two in pairs)
        what = "whole command" if name == "seconds" else "epochs alone"
        table.add_row(what, *(f"{each:.1f}" for each in medians), f"{ratio:.2f}")
    return table


def measure_accuracy(job: list[str], seeds: int) -> Table:
    """Test accuracies with the same seeds."""
    table, found = Table("seed", "1 process", "2 processes"), []
    with tempfile.TemporaryDirectory() as cache:
        for seed in range(seeds):
            own = [*job, "--seed", str(seed)]
            found.append([carry_out(processes, own, Path(cache)).accuracy for processes in (1, 2)])
            table.add_row(str(seed), *(f"{each:.2%}" for each in found[-1]))
    table.add_row("mean", *(f"{mean(each):.2%}" for each in zip(*found, strict=True)))
    return table


def measure_kills(job: list[str], moments: int) -> Table:
    """Runs of which one process is killed, and which are resumed."""
    table = Table("killed after (s)", "process", "ended after (s)", "it said", "resumed as", "accuracy")
    with tempfile.TemporaryDirectory() as cache:
        whole = carry_out(2, job, Path(cache))
        table.add_row("never", "", "", "", "", f"{whole.accuracy:.2%}")
        for number in range(moments):
            moment = whole.seconds * (number + 0.5) / moments
            with tempfile.TemporaryDirectory() as folder:
                own = [*job, "--output", f"{folder}/network.safetensors"]
                ended, said = _kill(own, moment, number % 2, Path(cache))
                resumed, processes = [*own, "--resume"], 1 + number // 2 % 2
                done = subprocess.run(
                    command_of(processes, resumed),
                    env=environment_of(processes, Path(cache)),
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    text=True,
                    check=True,
                )
            accuracy = json.loads(done.stdout)["accuracy"]
            table.add_row(
                f"{moment:.1f}", str(number % 2), f"{ended:.1f}", said, f"{processes} process(es)", f"{accuracy:.2%}"
            )
    return table


def _kill(job: list[str], moment: float, rank: int, cache: Path) -> tuple[float, str]:
    """Kill a process of a run; how long the run then took to end, and what it said."""
    process = subprocess.Popen(
        command_of(2, job),
        env=environment_of(2, cache),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    time.sleep(moment)
    listed = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(process.pid)], stdout=subprocess.PIPE, text=True, check=False
    )
    workers = sorted(map(int, listed.stdout.split()))
    if rank < len(workers):
        os.kill(workers[rank], signal.SIGKILL)
    start = time.perf_counter()
    _, stderr = process.communicate(timeout=LONGEST_WAIT)
    lines = [line for line in stderr.splitlines() if line.startswith("kd: ") and "several processes" not in line]
    return time.perf_counter() - start, " | ".join(lines)


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["throughput", "accuracy", "kill"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--moments", type=int, default=10)
    parser.add_argument("job", nargs="+")
    options = parser.parse_args()
    if options.what == "throughput":
        table = measure_throughput(options.job, options.rounds)
    elif options.what == "accuracy":
        table = measure_accuracy(options.job, options.seeds)
    else:
        table = measure_kills(options.job, options.moments)
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
