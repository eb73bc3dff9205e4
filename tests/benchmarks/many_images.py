"""Training on 6,000 to 1.2 million 32x32 colour images: speed, and the memory that is the process's own.

    python -m tests.benchmarks.many_images [--images 6000,60000,600000,1200000] [--arch mlp-64] [--turns 20]

The images are noise, a block of them repeated in a prepared file: 3.7 GB for 1.2 million. For speed, trainings on all
sizes take turns of a second or less, in one process, so that a machine that speeds up or slows down changes all of
them; each size is compared with the first one turn by turn. The smaller the network, the more its speed depends on how
fast images are found, so the default is a hard case. For memory, ``kd train-teacher`` trains an epoch on each size;
what cannot be given back to the file that it was mapped from is anonymous memory.
"""

import argparse
import json
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kd_cli.commands.resolve import resolve_teacher
from kd_cli.config import DataConfig, DeviceConfig, DeviceName, TrainingConfig
from kd_cli.data.prepared_file import write
from kd_cli.networks.spec import Spec, parse_spec
from kd_cli.training import memory
from kd_cli.training.loop import Callback, Training, fit
from tests.benchmarks.large_folder import MEGABYTE, after_import, train

CLASSES, SHAPE = 10, (3, 32, 32)
BLOCK = 6_000
TEST_IMAGES = 1_000

STEPS = 250
"""Of a turn."""

ENDLESS = 100_000
"""Epochs, of which the turns are a part."""


def write_images(path: Path, count: int) -> None:
    """A prepared file, as of a folder, with so many training images."""
    block = np.random.default_rng(0).integers(0, 256, (BLOCK, *SHAPE), np.uint8)
    sizes = {"test": TEST_IMAGES, "train": count}

    def pieces() -> Iterator[tuple[str, NDArray[Any]]]:
        for split, size in sizes.items():
            for start in range(0, size, BLOCK):
                yield f"{split}.images", block[: min(BLOCK, size - start)]
            yield f"{split}.labels", np.arange(size, dtype=np.int64) % CLASSES

    layout: dict[str, tuple[str, tuple[int, ...]]] = {}
    for split, size in sizes.items():
        layout |= {f"{split}.images": ("U8", (size, *SHAPE)), f"{split}.labels": ("I64", (size,))}
    names = json.dumps([str(number) for number in range(CLASSES)])
    metadata = {"key": "noise", "name": "noise", "classes": names, "validation": "0", "unreadable": "[0, []]"}
    write(path, metadata, layout, pieces())


class TakeTurns(Callback):
    """Lets this training work until its turn is over, and then waits until the others have had theirs."""

    def __init__(self, turns: int) -> None:
        self.turns = turns
        self.seconds: list[float] = []
        self.mine, self.next = threading.Semaphore(0), threading.Semaphore(0)
        self.begun = 0.0

    def on_fit_begin(self, training: Training) -> None:
        """Wait for the first turn."""
        self._wait()

    def on_step_end(self, training: Training) -> None:
        """Note what a turn took, once it is over."""
        if training.steps_done % STEPS:
            return
        self.seconds.append(time.perf_counter() - self.begun)
        self.next.release()
        if len(self.seconds) > self.turns:
            raise StopIteration
        self._wait()

    def _wait(self) -> None:
        self.mine.acquire()
        self.begun = time.perf_counter()


def measure_speed(files: dict[int, Path], architecture: Spec, turns: int) -> dict[int, list[float]]:
    """Seconds of each turn of a training on each size, but for the first one, which warms up."""
    takers = {count: TakeTurns(turns) for count in files}
    order = list(takers.values())
    for taker, following in zip(order, [*order[1:], order[0]], strict=True):
        taker.next = following.mine

    def run(count: int) -> None:
        training = TrainingConfig(epochs=ENDLESS, augment=("flip-crop",))
        data = DataConfig(str(files[count]), validation_fraction=0)
        job = resolve_teacher(architecture, data, training, DeviceConfig(device=DeviceName.cpu))
        try:
            fit(job.start(), (takers[count],))
        except StopIteration:
            return

    threads = [threading.Thread(target=run, args=(count,)) for count in files]
    for thread in threads:
        thread.start()
    order[0].mine.release()
    for thread in threads:
        thread.join()
    return {count: taker.seconds[1:] for count, taker in takers.items()}


def main() -> None:
    """Measure, and print a row for each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", default="6000,60000,600000,1200000")
    parser.add_argument("--arch", default="mlp-64")
    parser.add_argument("--turns", type=int, default=20)
    options = parser.parse_args()
    memory.keep_freed_memory()  # as the command line does
    with tempfile.TemporaryDirectory() as scratch:
        files = {count: Path(scratch) / f"{count}.safetensors" for count in map(int, options.images.split(","))}
        for count, file in files.items():
            write_images(file, count)
        seconds = measure_speed(files, parse_spec(options.arch), options.turns)
        own = {count: train(file, count, Path(scratch), options.arch, 1)[1] for count, file in files.items()}
    imported, smallest = after_import(), seconds[min(files)]
    seen = STEPS * TrainingConfig().batch_size
    for count, turns in seconds.items():
        ratio = median(first / mine for mine, first in zip(turns, smallest, strict=True))
        megabytes = (own[count] - imported) / MEGABYTE
        print(f"{count:>9,} images: {seen / median(turns):>7,.0f} images/s, {ratio:.2f} of the first row's,", end=" ")
        print(f"{megabytes:,.0f} MB more than imports")


if __name__ == "__main__":
    main()
