"""What a training step of each way to distil costs, against a step from labels alone.

    python tests/benchmarks/steps.py [--student mlp-128] [--rounds 15]

Every method trains the same student on the same 6,400 pictures, with what the teacher says of them computed before the
clock starts, as it is in a run. The methods take turns, round after round, and each ratio is the median over the
rounds of its epoch's time over that of the epoch from labels in the same round: a machine that speeds up or slows down
changes both. The teacher's weights are random, which costs the same.
"""

import argparse
import os
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from kd_cli import data, device
from kd_cli.data import Split
from kd_cli.methods import METHODS, MethodName, choose, require_possible
from kd_cli.networks import build
from kd_cli.recipes import Lesson
from kd_cli.settings import DatasetName, KdError, TrainingSettings, parse_spec
from kd_cli.teaching import Teaching
from kd_cli.train import Silent, Training

PICTURES = 6_400


def main() -> None:
    """Let the methods take turns, and print what a step of each takes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--student", type=parse_spec, default="mlp-128")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    device.make_repeatable(0)
    mnist = data.load(DatasetName.mnist, Path(os.environ.get("KD_DATA_DIR", "data")))
    train = Split(mnist.train.images[:PICTURES], mnist.train.labels[:PICTURES])
    teaching = Teaching([build(parse_spec("cnn-32")).eval()], train, mnist.normalisation, augment=False)
    trainings: dict[MethodName, Training] = {}
    for name in METHODS:
        choice = choose(name, {})
        try:
            require_possible(choice, options.student)
        except KdError:
            continue  # no maps to compare
        settings = TrainingSettings(epochs=options.rounds + 1)
        trainings[name] = Lesson(options.student, choice, settings, train, teaching).start(mnist)
    seconds: dict[MethodName, list[float]] = {name: [] for name in trainings}
    for _ in range(options.rounds + 1):
        for name, training in trainings.items():
            seconds[name].append(training.run_epoch(Silent()).seconds)

    steps = trainings[MethodName.labels].steps_per_epoch
    table = Table(title=f"{options.student} on MNIST, batch {TrainingSettings().batch_size}: one training step")
    table.add_column("Method")
    table.add_column("Milliseconds", justify="right")
    table.add_column("Of a step from labels", justify="right")
    for name, own in seconds.items():
        counted = list(zip(own, seconds[MethodName.labels], strict=True))[1:]  # the first round warms up
        ratio = median(mine / labels for mine, labels in counted)
        table.add_row(name.value, f"{1000 * median(own[1:]) / steps:.3f}", f"{ratio:.2f}x")
    Console().print(table)


if __name__ == "__main__":
    main()
