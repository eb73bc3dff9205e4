"""Training on 6,000 to 1.2 million 32x32 colour images: speed, and the memory that is the process's own.

    python -m tests.benchmarks.many_images [--images 6000,60000,600000,1200000] [--arch mlp-64] [--turns 3]

The images are noise, a block of them repeated in a prepared file: 3.7 GB for 1.2 million. All trainings see as many
images, the small sets for more epochs. The smaller the network, the more its speed depends on how fast images are
found, so the default is a hard case. Turns alternate between the sizes; medians are shown. Anonymous memory is what
cannot be given back to the file that it was mapped from.
"""

import argparse
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kd_cli.data.prepared_file import write
from tests.benchmarks.large_folder import MEGABYTE, after_import, train

CLASSES, SHAPE = 10, (3, 32, 32)
BLOCK = 6_000
TEST_IMAGES = 1_000


def write_images(path: Path, count: int) -> None:
    """A prepared file of a folder, with so many training images."""
    block = np.random.default_rng(0).integers(0, 256, (BLOCK, *SHAPE), np.uint8)
    parts = {"test": TEST_IMAGES, "train": count}

    def pieces() -> Iterator[tuple[str, NDArray[Any]]]:
        for split, size in parts.items():
            for start in range(0, size, BLOCK):
                yield f"{split}.images", block[: min(BLOCK, size - start)]
            yield f"{split}.labels", np.arange(size, dtype=np.int64) % CLASSES

    layout: dict[str, tuple[str, tuple[int, ...]]] = {}
    for split, size in parts.items():
        layout |= {f"{split}.images": ("U8", (size, *SHAPE)), f"{split}.labels": ("I64", (size,))}
    names = str([str(number) for number in range(CLASSES)]).replace("'", '"')
    metadata = {"key": "noise", "name": "noise", "classes": names, "validation": "0", "unreadable": "[0, []]"}
    write(path, metadata, layout, pieces())


def main() -> None:
    """Measure, and print a row for each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", default="6000,60000,600000,1200000")
    parser.add_argument("--arch", default="mlp-64")
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    counts = sorted(map(int, options.images.split(",")))
    imported = after_import()
    measured: dict[int, list[tuple[float, int]]] = {count: [] for count in counts}
    with tempfile.TemporaryDirectory() as scratch:
        files = {count: Path(scratch) / f"{count}.safetensors" for count in counts}
        for count, file in files.items():
            write_images(file, count)
        for _ in range(options.turns):
            for count, file in files.items():
                epochs = max(1, counts[-1] // count)
                measured[count].append(train(file, count, Path(scratch), options.arch, epochs))
    baseline = statistics.median(speed for speed, _ in measured[counts[0]])
    for count, results in measured.items():
        speed = statistics.median(each for each, _ in results)
        memory = statistics.median(each for _, each in results)
        own = (memory - imported) / MEGABYTE
        print(
            f"{count:>9,} images: {speed:>7,.0f} images/s, {speed / baseline:.2f} of the smallest set's, {own:,.0f} MB"
        )


if __name__ == "__main__":
    main()
