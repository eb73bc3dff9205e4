"""A student of a published ResNet-56 with 32 and with 16 bits: seconds of an epoch, and test accuracy.

    python -m tests.benchmarks.precision IMAGES TEACHER [--student resnet-8] [--epochs 4] [--seeds 3]
        [--share 1] [--threads N] [--data-dir data]

IMAGES is a folder with ``train/CLASS/*`` and ``test/CLASS/*``; TEACHER is a state dict of a CIFAR ResNet-56 for pixels
normalised as ImageNet's. Its outputs are computed once, before the clock starts. The precisions take turns, epoch by
epoch, and the ratio is the median over all epochs of the time with 32 bits over that with 16 in the same turn: a
machine that speeds up or slows down changes both. ``--share 0.2`` trains with every fifth image.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from statistics import mean, median

import torch
from rich.console import Console
from rich.table import Table

from kd_cli.commands.job import Job, StudentConfig
from kd_cli.commands.resolve import resolve_student
from kd_cli.config import IMAGENET_MEAN, IMAGENET_STD, DataConfig, TeacherConfig, TrainingConfig, TrainingPrecision
from kd_cli.data.dataset import Split
from kd_cli.distillation.teacher_outputs import TeacherOutputs
from kd_cli.evaluation.quality import measure_accuracy
from kd_cli.networks.classifier import compute_logits
from kd_cli.networks.spec import parse_spec
from kd_cli.training import device, memory
from kd_cli.training.loop import Training

PRECISIONS = (TrainingPrecision.fp32, TrainingPrecision.bf16)


def make_job(options: argparse.Namespace) -> Job:
    """The student's job, with a part of the training images."""
    teacher = TeacherConfig((Path(options.teacher),), "resnet-56", IMAGENET_MEAN, IMAGENET_STD)
    data = DataConfig(options.images, Path(options.data_dir), validation_fraction=0)
    training = TrainingConfig(epochs=options.epochs, threads=options.threads)
    job = resolve_student(StudentConfig(parse_spec(options.student), teachers=teacher, data=data, training=training))
    rows = slice(None, None, round(1 / options.share))
    train = Split(job.dataset.train.images[rows], job.dataset.train.labels[rows])
    return replace(job, dataset=replace(job.dataset, train=train))


def start(job: Job, outputs: TeacherOutputs, precision: TrainingPrecision, seed: int) -> Training:
    """A fresh run."""
    return replace(job, training=replace(job.training, precision=precision, seed=seed)).start(outputs)


def main() -> None:
    """Let the precisions take turns, and print what they took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images")
    parser.add_argument("teacher")
    parser.add_argument("--student", default="resnet-8")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--data-dir", default="data")
    options = parser.parse_args()
    memory.keep_freed_memory()  # as the command line does
    job = make_job(options)
    outputs, test = job.compute_outputs(), job.dataset.test
    seconds: dict[TrainingPrecision, list[float]] = {precision: [] for precision in PRECISIONS}
    accuracies: dict[TrainingPrecision, list[float]] = {precision: [] for precision in PRECISIONS}
    for seed in range(options.seeds):
        runs = {precision: start(job, outputs, precision, seed) for precision in PRECISIONS}
        for _ in range(options.epochs):
            for precision, training in runs.items():
                seconds[precision].append(training.run_epoch().seconds)
        for precision, training in runs.items():
            accuracy, _ = measure_accuracy(compute_logits(training.result.eval(), test.images), test.labels)
            accuracies[precision].append(accuracy)
    ratio = median(ours / theirs for ours, theirs in zip(*seconds.values(), strict=True))
    table = Table(
        title=f"{options.student} from a ResNet-56, {len(outputs.split):,} images",
        caption=device.describe(torch.device("cpu"), options.threads)[1],
    )
    for column in ("", "Seconds an epoch", "Mean accuracy", "By seed"):
        table.add_column(column, justify="right")
    for precision in PRECISIONS:
        by_seed = accuracies[precision]
        row = [precision.value, f"{median(seconds[precision]):.2f}", f"{mean(by_seed):.2%}"]
        table.add_row(*row, ", ".join(f"{each:.2%}" for each in by_seed))
    Console(width=110).print(table)
    points = 100 * (mean(accuracies[TrainingPrecision.bf16]) - mean(accuracies[TrainingPrecision.fp32]))
    print(f"bf16 is {ratio:.2f} times as fast; its mean accuracy is {points:+.2f} points from that of fp32.")


if __name__ == "__main__":
    main()
