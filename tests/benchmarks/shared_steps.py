"""What a training step takes in one process, and in several that share it.

    OMP_NUM_THREADS=2 python tests/benchmarks/shared_steps.py [--real-time]
    OMP_NUM_THREADS=1 torchrun --nproc-per-node 2 tests/benchmarks/shared_steps.py [--real-time]

Each network is trained on random images with batches of 64; the time is the median over epochs of 12 steps. With
``--real-time`` nothing else takes the cores meanwhile (a few seconds, as root on Linux): two processes wait for each
other in every step, and on a busy machine mostly for the scheduler.
"""

import argparse
import os
from statistics import median

import torch
import torch._dynamo  # torch's DDP imports it: before the clock starts

from kd_cli.config import DeviceName, TrainingConfig
from kd_cli.data.batches import BatchSource
from kd_cli.data.dataset import DataInfo, Split
from kd_cli.networks.classifier import build_classifier
from kd_cli.networks.spec import parse_spec
from kd_cli.training.group import Group, join
from kd_cli.training.loop import Training
from kd_cli.training.memory import keep_freed_memory
from kd_cli.training.objective import label_objective

STEPS, EPOCHS, BATCH_SIZE = 12, 5, 64

NETWORKS = {
    "mlp-128": (1, 28, 28),
    "cnn-32": (1, 28, 28),
    "cnn-256": (1, 28, 28),
    "resnet-8": (3, 32, 32),
    "resnet-20": (3, 32, 32),
}


def time_steps(spec: str, shape: tuple[int, int, int], group: Group) -> str:
    """Millions of multiply-accumulates and milliseconds of a step."""
    channels, count = shape[0], STEPS * BATCH_SIZE
    info = DataInfo("random", tuple("0123456789"), shape, (0.5,) * channels, (0.3,) * channels, digest="")
    split = Split(torch.randint(256, (count, *shape), dtype=torch.uint8), torch.arange(count) % 10)
    batches = BatchSource(split, BATCH_SIZE, 0, share=group)
    config = TrainingConfig(epochs=EPOCHS + 1, batch_size=BATCH_SIZE)
    training = Training(build_classifier(parse_spec(spec), info), label_objective, batches, config, group)
    training.run_epoch()  # warms up
    seconds = median(training.run_epoch().seconds for _ in range(EPOCHS))
    return f"{spec:10} {training.macs_per_step / 1e6:6.0f} million MACs {1000 * seconds / STEPS:7.1f} ms"


def main() -> None:
    """Time all networks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real-time", action="store_true")
    options = parser.parse_args()
    keep_freed_memory()
    if options.real_time:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))
    with join(DeviceName.cpu) as group:
        for spec, shape in NETWORKS.items():
            line = time_steps(spec, shape, group)
            if group.is_first:
                print(f"{group.size} process(es), {torch.get_num_threads()} thread(s): {line}", flush=True)


if __name__ == "__main__":
    main()
