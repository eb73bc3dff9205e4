"""What a training step takes with each option of it, against one without any.

    python -m tests.benchmarks.options [--network resnet-8] [--shape 3,32,32] [--rounds 15] [--all]

Every way trains the same network on the same 512 random images, from labels. The ways take turns, round after round,
and each ratio is the median over the rounds of the usual time over the way's own in the same round: a machine that
speeds up or slows down changes both. ``--all`` adds what is slow: fp16, which the commands refuse on a CPU, and
``--compile``.
"""

import argparse
from statistics import median
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from kd_cli.config import OptimiserName, TrainingConfig, TrainingPrecision
from kd_cli.data.batches import BatchSource
from kd_cli.data.dataset import DataInfo, Split
from kd_cli.networks.classifier import build_classifier
from kd_cli.networks.spec import Spec, parse_spec
from kd_cli.training import device, memory
from kd_cli.training.loop import Training
from kd_cli.training.objective import label_objective

STEPS = 8
"""In a round of each way."""

BF16, FP16 = {"precision": TrainingPrecision.bf16}, {"precision": TrainingPrecision.fp16}

WAYS: dict[str, dict[str, Any]] = {
    "no option": {},
    "--precision bf16": BF16,
    "--no-channels-last": {"channels_last": False},
    "--channels-last": {"channels_last": True},
    "--no-channels-last --precision bf16": {"channels_last": False, **BF16},
    "--threads 1": {"threads": 1},
    "--threads 2": {"threads": 2},
    "--optimiser sgd": {"optimiser": OptimiserName.sgd},
    "--optimiser adamw": {"optimiser": OptimiserName.adamw},
    "--accumulate 2": {"accumulate": 2},
    "--ema 0.999": {"ema": 0.999},
    "--label-smoothing 0.1": {"label_smoothing": 0.1},
}

SLOW_WAYS: dict[str, dict[str, Any]] = {
    "--precision fp16": FP16,
    "--compile": {"compile": True},
    "--compile --precision bf16": {"compile": True, **BF16},
}


def start(network: Spec, shape: tuple[int, int, int], options: dict[str, Any]) -> Training:
    """A fresh run on random images."""
    config = TrainingConfig(epochs=1000, **options)
    random = torch.Generator().manual_seed(0)
    count = STEPS * config.batch_size
    images = torch.randint(256, (count, *shape), generator=random, dtype=torch.uint8)
    channels = shape[0]
    info = DataInfo("random", tuple("0123456789"), shape, (0.5,) * channels, (0.3,) * channels, digest="")
    torch.manual_seed(0)
    classifier = build_classifier(network, info)
    if config.channels_last is not None:
        classifier.use_channels_last(config.channels_last)
    batches = BatchSource(Split(images, torch.arange(count) % 10), config.batch_size, config.seed)
    return Training(classifier, label_objective, batches, config)


def main() -> None:
    """Let the ways take turns, and print what a step of each takes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", type=parse_spec, default="resnet-8")
    parser.add_argument("--shape", default="3,32,32")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--all", action="store_true")
    options = parser.parse_args()
    memory.keep_freed_memory()  # as the command line does
    channels, height, width = map(int, options.shape.split(","))
    ways = WAYS | (SLOW_WAYS if options.all else {})
    trainings = {name: start(options.network, (channels, height, width), way) for name, way in ways.items()}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(options.rounds + 1):
        for name, training in trainings.items():
            seconds[name].append(training.run_epoch().seconds)
    table = Table(
        title=f"{options.network}, images of {options.shape}, batch {TrainingConfig().batch_size}: one training step",
        caption=device.describe(torch.device("cpu"))[1],
    )
    table.add_column("Options")
    table.add_column("Milliseconds", justify="right")
    table.add_column("Times as fast", justify="right")
    usual = seconds["no option"]
    for name, own in seconds.items():
        ratio = median(theirs / mine for theirs, mine in list(zip(usual, own, strict=True))[1:])  # the first warms up
        table.add_row(name, f"{1000 * median(own[1:]) / STEPS:.2f}", f"{ratio:.2f}")
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
