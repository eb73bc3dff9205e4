"""What a training step of each method costs, against a step from labels alone.

    python tests/benchmarks/steps.py [--student mlp-128] [--rounds 15]

Every method trains the same student on the same 6,400 images, with the teacher's outputs computed before the clock
starts, as they are in a run. The methods take turns, round after round, and each ratio is the median over the rounds of
its epoch's time over that of the epoch from labels in the same round: a machine that speeds up or slows down changes
both. The teacher's weights are random, which costs the same.
"""

import argparse
import os
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch
from rich.console import Console
from rich.table import Table

from kd_cli.commands.job import Job
from kd_cli.config import DataConfig, KdError, LabelConfig, Role, TrainingConfig
from kd_cli.data.dataset import Split
from kd_cli.data.prepared import load
from kd_cli.distillation.methods import FROM_LABELS, METHODS, MethodConfig, require_possible
from kd_cli.distillation.teacher_outputs import TeacherOutputs
from kd_cli.networks.classifier import build_classifier
from kd_cli.networks.spec import parse_spec
from kd_cli.training import memory
from kd_cli.training.loop import Training

TRAINING_IMAGES = 6_400


def main() -> None:
    """Let the methods take turns, and print what a step of each takes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--student", type=parse_spec, default="mlp-128")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    memory.keep_freed_memory()  # as the command line does
    torch.manual_seed(0)
    mnist = load(DataConfig("mnist", Path(os.environ.get("KD_DATA_DIR", "data"))))
    train = Split(mnist.train.images[:TRAINING_IMAGES], mnist.train.labels[:TRAINING_IMAGES])
    outputs = TeacherOutputs([build_classifier(parse_spec("cnn-32"), mnist.info)], train)
    config = TrainingConfig(epochs=options.rounds + 1)
    job = Job(Role.student, options.student, FROM_LABELS, config, LabelConfig(), replace(mnist, train=train))
    trainings: dict[str, Training] = {}
    for name in METHODS:
        method = MethodConfig(name)
        try:
            require_possible(method, options.student)
        except KdError:
            continue  # no maps to compare
        trainings[name] = replace(job, method=method).start(outputs)
    seconds: dict[str, list[float]] = {name: [] for name in trainings}
    for _ in range(options.rounds + 1):
        for name, training in trainings.items():
            seconds[name].append(training.run_epoch().seconds)

    baseline = FROM_LABELS.method
    steps = trainings[baseline].batches.steps_per_epoch
    table = Table(title=f"{options.student} on MNIST, batch {config.batch_size}: one training step")
    table.add_column("Method")
    table.add_column("Milliseconds", justify="right")
    table.add_column("Of a step from labels", justify="right")
    for name, own in seconds.items():
        counted = list(zip(own, seconds[baseline], strict=True))[1:]  # the first round warms up
        ratio = median(mine / labels for mine, labels in counted)
        table.add_row(name, f"{1000 * median(own[1:]) / steps:.3f}", f"{ratio:.2f}x")
    Console().print(table)


if __name__ == "__main__":
    main()
