"""The whole job, teacher and student, both ways in one run: ours, and the loop that a user writes first.

    python tests/benchmarks/whole_job.py [--epochs 5] [--batch-size 64] [--ours [RUNS]]

The loop that a user writes first: ``DataLoader(MNIST(transform=ToTensor+Normalize), shuffle=True)``, the networks in
the order in which they are documented, Adam at 1e-3, the teacher called live in every distillation step. Both ways pass
over the test set after every epoch. Each way runs in a process of its own, as it would for a user, so that neither
inherits the other's memory; the imports are not counted. Our clock runs for all else that the two commands do, from
loading the data to saving the weights.

The arithmetic limit is the time that our floating-point operations take at the rate of a large matrix product.

``--ours`` leaves the other loop and the limit out, and runs our side alone, as often as asked for: for two versions of
this program, measured in turns.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import NamedTuple

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.benchmark import Timer
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode
from torchvision import datasets, transforms

from kd_cli.commands.distill import distill
from kd_cli.commands.job import StudentConfig
from kd_cli.commands.train_teacher import train_teacher
from kd_cli.config import DataConfig, DeviceName, RunConfig, TrainingConfig
from kd_cli.distillation.methods import MethodConfig
from kd_cli.networks.build import build_network
from kd_cli.networks.spec import parse_spec
from kd_cli.report.tables import counted
from kd_cli.training import device, memory

TEMPERATURE, ALPHA = 4.0, 0.9
TRAINING_IMAGES = 60_000


class Measured(NamedTuple):
    """Seconds and test accuracies, each of teacher and student."""

    seconds: list[float]
    accuracies: list[float]


def first_draft(root: Path, epochs: int, batch_size: int) -> Measured:
    """Teacher and student, trained by the loop that a user writes first."""
    torch.manual_seed(0)
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])
    train = DataLoader(datasets.MNIST(root, train=True, transform=transform, download=True), batch_size, shuffle=True)
    test = DataLoader(datasets.MNIST(root, train=False, transform=transform), batch_size=1000)
    flat = nn.Flatten()
    teacher = nn.Sequential(
        *(nn.Conv2d(1, 32, 5), nn.ReLU(), nn.MaxPool2d(5), flat, nn.Linear(512, 128), nn.ReLU(), nn.Linear(128, 10))
    )
    student = nn.Sequential(flat, nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))

    def learn(images: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(teacher(images), labels)

    def distil(images: Tensor, labels: Tensor) -> Tensor:
        logits = student(images)
        with torch.no_grad():
            target = F.softmax(teacher(images) / TEMPERATURE, dim=1)
        soft = F.kl_div(F.log_softmax(logits / TEMPERATURE, dim=1), target, reduction="batchmean")
        return ALPHA * TEMPERATURE**2 * soft + (1 - ALPHA) * F.cross_entropy(logits, labels)

    seconds, accuracies = [], []
    for network, loss in ((teacher, learn), (student, distil)):
        optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
        start = time.perf_counter()
        for _ in range(epochs):
            for images, labels in train:
                optimiser.zero_grad()
                loss(images, labels).backward()
                optimiser.step()
            with torch.no_grad():
                correct = sum((network(images).argmax(1) == labels).sum().item() for images, labels in test)
        seconds.append(time.perf_counter() - start)
        accuracies.append(correct / len(test.dataset))  # type: ignore[arg-type]
    return Measured(seconds, accuracies)


def ours(data_dir: Path, models_dir: Path, epochs: int, batch_size: int) -> Measured:
    """Teacher and student, trained as the commands train them."""
    data, run = DataConfig("mnist", data_dir), RunConfig(models_dir, DeviceName.cpu)
    training = TrainingConfig(epochs=epochs, batch_size=batch_size)
    method = MethodConfig("kd", temperature=TEMPERATURE, alpha=ALPHA)
    student = StudentConfig(parse_spec("mlp-128"), method, data=data, training=training, run=run)
    seconds, accuracies = [], []
    for train in (lambda: train_teacher(parse_spec("cnn-32"), data, training, run), lambda: distill(student)):
        start = time.perf_counter()
        memory.keep_freed_memory()  # as the command line does
        accuracies.append(train().accuracy)
        seconds.append(time.perf_counter() - start)
    return Measured(seconds, accuracies)


def apart(way: Callable[..., Measured], *arguments: object) -> Measured:
    """What ``way(*arguments)`` returns when it is called in a new process."""
    with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as process:
        return process.submit(way, *arguments).result()


def arithmetic_limit(epochs: int) -> tuple[float, float]:
    """Seconds that our operations take at the rate of a large matrix product, and that rate in FLOP/s."""
    images, labels = torch.randn(100, 1, 28, 28), torch.zeros(100, dtype=torch.long)
    teacher, student = build_network(parse_spec("cnn-32")), build_network(parse_spec("mlp-128"))
    with FlopCounterMode(display=False) as training:
        for network in (teacher, student):
            F.cross_entropy(network(images), labels).backward()
    with FlopCounterMode(display=False) as soft_targets, torch.no_grad():
        teacher(images)
    flops = (training.get_total_flops() * epochs + soft_targets.get_total_flops()) * TRAINING_IMAGES / len(images)
    size = 2048
    matrix = torch.randn(size, size)
    timer = Timer("a @ a", globals={"a": matrix}, num_threads=torch.get_num_threads())
    rate = 2 * size**3 / timer.blocked_autorange(min_run_time=2).median
    return flops / rate, rate


def measure_ours(data_dir: Path, epochs: int, batch_size: int) -> Measured:
    """Our side, in a new process and an empty folder."""
    with tempfile.TemporaryDirectory() as models_dir:
        return apart(ours, data_dir, Path(models_dir), epochs, batch_size)


def make_table(epochs: int, batch_size: int, rows: Sequence[tuple[str, Measured]]) -> Table:
    """A row for each way, or for each run of ours."""
    table = Table(
        title=f"Teacher cnn-32 and student mlp-128 on MNIST: {counted(epochs, 'epoch')} each, batch {batch_size}",
        caption=device.describe(torch.device("cpu"))[1],
    )
    table.add_column("")
    for column in ("Teacher (s)", "Student (s)", "Both (s)", "Teacher accuracy", "Student accuracy"):
        table.add_column(column, justify="right")
    for name, (seconds, accuracies) in rows:
        times = [f"{each:.1f}" for each in (*seconds, sum(seconds))]
        table.add_row(name, *times, *(f"{each:.2%}" for each in accuracies))
    return table


def main() -> None:
    """Run both ways, or ours alone, and print what they took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--ours", type=int, nargs="?", const=1, metavar="RUNS", help="our side alone, this often")
    options = parser.parse_args()
    work = options.epochs, options.batch_size
    data_dir = Path(os.environ.get("KD_DATA_DIR", "data"))
    console = Console(width=110)
    if options.ours is not None:
        runs = [measure_ours(data_dir, *work) for _ in range(options.ours)]
        console.print(make_table(*work, [(f"kd, run {number}", run) for number, run in enumerate(runs, start=1)]))
        teacher, student, both = (
            median(times) for times in zip(*((*run.seconds, sum(run.seconds)) for run in runs), strict=True)
        )
        console.print(f"Medians: teacher {teacher:.2f} s, student {student:.2f} s, both {both:.2f} s.")
        return
    first = apart(first_draft, data_dir, *work)
    own = measure_ours(data_dir, *work)
    limit, rate = arithmetic_limit(options.epochs)
    console.print(make_table(*work, [("the loop a user writes first", first), ("kd", own)]))
    console.print(f"kd is {sum(first.seconds) / sum(own.seconds):.1f} times as fast.")
    console.print(
        f"Arithmetic limit {limit:.1f} s at {rate / 1e9:.0f} GFLOP/s: "
        f"kd takes {sum(own.seconds) / limit:.1f} times as long."
    )


if __name__ == "__main__":
    main()
