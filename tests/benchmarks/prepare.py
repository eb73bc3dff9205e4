"""How long a folder of JPEG files takes to prepare, first and later, against a plain loop over Pillow's decoder.

    python -m tests.benchmarks.prepare FOLDER [--repeats 3]

FOLDER is ``train/CLASS/*`` with ``test/CLASS/*``, or ``CLASS/*``, of images of one size. The loop is what one writes
first: it finds the files, decodes them in two processes and keeps them in one array, in memory. The two take turns, and
the files are in the page cache for both.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from multiprocessing import Pool
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kd_cli.config import DataConfig
from kd_cli.data.prepared import load

PROCESSES = 2


def decode(path: Path) -> NDArray[np.uint8]:
    """The pixels of one file."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def decode_plainly(folder: Path) -> int:
    """What one writes first: how many images there are, once they are in one array."""
    with Pool(PROCESSES) as pool:
        return len(np.stack(pool.map(decode, sorted(folder.rglob("*.jpg")), chunksize=250)))


def measure(work: Callable[[], object]) -> float:
    """Seconds."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    """Measure, and print ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    rows, count = [], decode_plainly(arguments.folder)
    with tempfile.TemporaryDirectory() as scratch:
        for repeat in range(arguments.repeats):
            config = DataConfig(str(arguments.folder), Path(scratch) / f"data {repeat}")
            plain = measure(lambda: decode_plainly(arguments.folder))
            first, later = measure(lambda: load(config)), measure(lambda: load(config))  # noqa: B023
            rows.append((plain, first, later))
    plain, first, later = (statistics.median(column) for column in zip(*rows, strict=True))
    print(f"{count:,} images, medians of {arguments.repeats}")
    print(f"plain loop, {PROCESSES} processes  {plain:6.2f} s")
    print(f"first use                {first:6.2f} s  {first / plain:.2f} of the loop")
    print(f"later use                {later:6.2f} s  {later / plain:.2f} of the loop")


if __name__ == "__main__":
    main()
