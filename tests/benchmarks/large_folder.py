"""Training on a folder of images, and on one with many times as many: speed, and the memory that is the process's own.

    python -m tests.benchmarks.large_folder FOLDER [--times 20] [--arch mlp-64] [--epochs 20]

FOLDER is ``train/CLASS/*`` with ``test/CLASS/*``. The large folder holds every training image so many times under other
names. Both see as many images: the small one for so many epochs, the large one for as many fewer. The smaller the
network, the more its speed depends on how fast images are found, so the default is a hard case. Anonymous memory is
what cannot be given back to the file that it was mapped from.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

MEGABYTE = 2**20


def repeat(folder: Path, place: Path, times: int) -> None:
    """Make a folder that holds each training image many times, as links, and the test images once."""
    for file in folder.glob("*/*/*"):
        copies = times if file.parts[-3] == "train" else 1
        target = place / file.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        original = file.resolve()
        for number in range(copies):
            target.with_stem(f"{file.stem}-{number}").symlink_to(original)


def anonymous(status: str) -> int:
    """Bytes of a process's own memory, from the text of its ``/proc/PID/status``."""
    return int(status.split("RssAnon:")[1].split()[0]) * 1024


def after_import() -> int:
    """Bytes that importing what a training command imports takes."""
    program = "import kd_cli.api, pathlib; print(pathlib.Path('/proc/self/status').read_text())"
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=True)
    return anonymous(done.stdout)


def train(dataset: Path, images: int, data: Path, arch: str, epochs: int) -> tuple[float, int]:
    """Training images per second, of so many, and the most bytes of anonymous memory."""
    command = [sys.executable, "-m", "kd_cli", "train-teacher", "--json", "--dataset", str(dataset), "--arch", arch]
    command += ["--data-dir", str(data), "--models-dir", str(data / "models"), "--epochs", str(epochs)]
    command += ["--augment", "flip-crop", "--validation-fraction", "0"]
    most = 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as run:
        ended = threading.Event()

        def watch() -> None:
            nonlocal most
            while not ended.wait(0.05):
                try:
                    most = max(most, anonymous(Path(f"/proc/{run.pid}/status").read_text()))
                except (OSError, IndexError):  # it ended just now
                    return

        watcher = threading.Thread(target=watch)
        watcher.start()
        output, _ = run.communicate()
        ended.set()
        watcher.join()
    result = json.loads(output)
    return images * epochs / result["train_seconds"], most


def main() -> None:
    """Measure, and print ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--arch", default="mlp-64")
    parser.add_argument("--epochs", type=int, default=20)
    options = parser.parse_args()
    imported = after_import()
    with tempfile.TemporaryDirectory() as scratch:
        small, large = Path(scratch) / "small", Path(scratch) / "large"
        repeat(options.folder, small, 1)
        repeat(options.folder, large, options.times)
        data = Path(scratch) / "data"
        count = len(list(small.glob("train/*/*")))
        speed, memory = train(small, count, data, options.arch, options.epochs)
        fewer = max(1, options.epochs // options.times)
        large_speed, large_memory = train(large, count * options.times, data, options.arch, fewer)
    print(f"small: {speed:,.0f} images/s, {(memory - imported) / MEGABYTE:,.0f} MB more than imports")
    print(f"large: {large_speed:,.0f} images/s, {(large_memory - imported) / MEGABYTE:,.0f} MB more than imports")
    print(f"speed of the large set: {large_speed / speed:.2f} of the small one's")


if __name__ == "__main__":
    main()
