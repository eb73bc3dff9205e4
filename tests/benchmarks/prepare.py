"""How long a folder of JPEG files takes to prepare, first and later, against a plain loop over Pillow's decoder.

    python -m tests.benchmarks.prepare FOLDER [--images 6000] [--repeats 3]

FOLDER is ``train/CLASS/*`` with ``test/CLASS/*``, or ``CLASS/*``. The loop decodes the same files in two processes, and
keeps nothing; the two take turns, and the files are in the page cache for both.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from kd_cli.config import DataConfig
from kd_cli.data.folders import list_folder
from kd_cli.data.prepared import load

PROCESSES = 2


def decode_plainly(paths: list[str]) -> int:
    """What one writes first."""
    count = 0
    for path in paths:
        with Image.open(path) as image:
            count += len(np.asarray(image.convert("RGB")))
    return count


def measure(work: Callable[[], object]) -> float:
    """Seconds."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def link_some(folder: Path, place: Path, most: int) -> list[str]:
    """A folder of links to at most so many images of each part; gives their files."""
    listed = list_folder(folder)
    step = -(-sum(map(len, listed.parts.values())) // most)
    for files in listed.parts.values():
        for path in files.paths[::step]:
            link = place / Path(path).relative_to(listed.path)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path)
    return [path for files in list_folder(place).parts.values() for path in files.paths]


def main() -> None:
    """Measure, and print ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=60_000)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as scratch, ProcessPoolExecutor(PROCESSES) as pool:
        files = link_some(arguments.folder, Path(scratch) / "images", arguments.images)
        shares = [files[part::PROCESSES] for part in range(PROCESSES)]
        decode_plainly(files)
        for repeat in range(arguments.repeats):
            config = DataConfig(str(Path(scratch) / "images"), Path(scratch) / f"data {repeat}")
            plain = measure(lambda: list(pool.map(decode_plainly, shares)))
            first, later = measure(lambda: load(config)), measure(lambda: load(config))  # noqa: B023
            rows.append((plain, first, later))
    plain, first, later = (statistics.median(column) for column in zip(*rows, strict=True))
    print(f"{len(files):,} images, medians of {arguments.repeats}")
    print(f"plain loop, {PROCESSES} processes  {plain:6.2f} s")
    print(f"first use                {first:6.2f} s  {first / plain:.2f} of the loop")
    print(f"later use                {later:6.2f} s  {later / plain:.2f} of the loop")


if __name__ == "__main__":
    main()
