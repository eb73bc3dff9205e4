"""How long `kd --help` and `kd predict` take, against the imports that they cannot do without, or each other.

    python -m tests.benchmarks.startup [--repeats 15]

Each command and its baseline take turns, each in a fresh process; every ratio is the median over the turns. Bytecode
is cached, as it is once a program is installed, and the first turn, which writes it, does not count. They are to stay
below 1.5 for `kd --help`, and 1.3 for `kd predict`; with an exported file, below 0.5 of `kd predict` itself.
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

import torch
from PIL import Image, ImageDraw

from kd_cli.config import Role
from kd_cli.networks.checkpoint import checkpoint_path, load_checkpoint, shipped_models_dir
from kd_cli.networks.export import export_onnx

PREDICT = ("predict", "one.png")
PREDICT_EXPORTED = ("predict", "--model", "student.onnx", "one.png")

PAIRS: tuple[tuple[tuple[str, ...], str | tuple[str, ...]], ...] = (
    (("--help",), "import typer, rich"),
    (PREDICT, "import torch"),
    (PREDICT_EXPORTED, PREDICT),
)
"""A command, and the imports or the command that it is measured against."""


def measure(work: str | tuple[str, ...], folder: str) -> tuple[float, float]:
    """Wall-clock and CPU seconds of a program, or of a command of ours, that is to succeed, in a fresh process."""
    arguments = ["-c", work] if isinstance(work, str) else ["-m", "kd_cli", *work]
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
        draw_one(Path(folder, PREDICT[-1]))
        shipped = checkpoint_path(shipped_models_dir(), "mnist", Role.student)
        student = load_checkpoint(shipped, torch.device("cpu"))
        export_onnx(student.classifier, student.metadata, Path(folder, "student.onnx"))
        for command, baseline in PAIRS:
            turns = [(measure(command, folder), measure(baseline, folder)) for _ in range(repeats + 1)][1:]
            against = baseline if isinstance(baseline, str) else " ".join(("kd", *baseline))
            print(f"kd {' '.join(command)}, against {against}: medians of {repeats}")
            for number, what in enumerate(("wall clock", "CPU")):
                ours, theirs = (median(turn[side][number] for turn in turns) for side in (0, 1))
                ratio = median(own[number] / other[number] for own, other in turns)
                print(f"  {what:10}  {ours:6.3f} s against {theirs:6.3f} s: {ratio:.2f}")


if __name__ == "__main__":
    main()
