"""How long `kd --help` and `kd predict` take, against the imports that they cannot do without.

    python -m tests.benchmarks.startup [--repeats 15]

Each command and its baseline take turns, each in a fresh process; every ratio is the median over the turns. Bytecode
is cached, as it is once a program is installed, and the first turn, which writes it, does not count. They are to stay
below 1.5 for `kd --help`, and 1.3 for `kd predict`.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from PIL import Image, ImageDraw

IMAGE = "one.png"

PAIRS = {
    "kd --help": (["-m", "kd_cli", "--help"], "import typer, rich"),
    f"kd predict {IMAGE}": (["-m", "kd_cli", "predict", IMAGE], "import torch"),
}
"""A command, and the imports that it is measured against."""


def measure(arguments: list[str], folder: str) -> tuple[float, float]:
    """Wall-clock and CPU seconds of a Python process that is to succeed."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    spent, start = _children_seconds(), time.perf_counter()
    subprocess.run([sys.executable, *arguments], cwd=folder, env=environment, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start, _children_seconds() - spent


def _children_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def draw_one(path: Path) -> None:
    """A photograph's worth of a handwritten 1."""
    image = Image.new("L", (200, 200), "white")
    ImageDraw.Draw(image).line([(90, 170), (110, 30)], fill="black", width=14)
    image.save(path)


def main() -> None:
    """Measure, and print ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15)
    repeats = parser.parse_args().repeats
    with tempfile.TemporaryDirectory() as folder:
        draw_one(Path(folder, IMAGE))
        for name, (command, imports) in PAIRS.items():
            turns = [(measure(command, folder), measure(["-c", imports], folder)) for _ in range(repeats + 1)][1:]
            print(f"{name}, against {imports}: medians of {repeats}")
            for number, what in enumerate(("wall clock", "CPU")):
                ours, theirs = (median(turn[side][number] for turn in turns) for side in (0, 1))
                ratio = median(own[number] / other[number] for own, other in turns)
                print(f"  {what:10}  {ours:6.3f} s against {theirs:6.3f} s: {ratio:.2f}")


if __name__ == "__main__":
    main()
