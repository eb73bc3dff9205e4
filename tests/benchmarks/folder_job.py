"""Distilling a published ResNet-56 on a folder of images, by our commands and by the loop that a user writes first.

    python tests/benchmarks/folder_job.py IMAGES TEACHER [--epochs 10] [--student resnet-8] [--seed 0] [WAY ...]

IMAGES is a folder with ``train/CLASS/*`` and ``test/CLASS/*``; TEACHER is a state dict of a CIFAR ResNet-56 for pixels
normalised as ImageNet's. The ways, all by default:

* ``first-draft``: ``ImageFolder``, ``DataLoader`` with 2 workers, flips and padded crops, the teacher called live;
* ``live``: ``kd distill --augment flip-crop --teacher-views 0``;
* ``views``: the same with ``--teacher-views 4``, in an empty cache;
* ``again``: the same command once more, with the teacher's outputs on disk (after ``views``);
* ``plain``: ``kd distill`` without augmentation, the teacher's outputs computed once, in an empty cache.

Every way runs in a process of its own, and its time is that of the whole process, with imports and evaluation. The
images are prepared before the clock starts; tests/benchmarks/prepare.py measures that.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

TEMPERATURE, ALPHA, BATCH_SIZE, LR = 4.0, 0.9, 64, 1e-3
WAYS = ("first-draft", "live", "views", "again", "plain")
OPTIONS = {
    "live": ("--augment", "flip-crop", "--teacher-views", "0"),
    "views": ("--augment", "flip-crop", "--teacher-views", "4"),
    "again": ("--augment", "flip-crop", "--teacher-views", "4"),
    "plain": (),
}


def first_draft(images: Path, teacher_file: Path, student_spec: str, epochs: int, seed: int) -> float:
    """Test accuracy of a student that was distilled by the loop that a user writes first."""
    import torch
    from torch.nn import functional as F
    from torch.utils.data import DataLoader
    from torchvision import datasets, transforms

    from kd_cli.networks.build import build_network
    from kd_cli.networks.spec import parse_spec

    torch.manual_seed(seed)
    normalise = [transforms.ToTensor(), transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))]
    augment = [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip()]
    train = datasets.ImageFolder(str(images / "train"), transforms.Compose(augment + normalise))
    test = datasets.ImageFolder(str(images / "test"), transforms.Compose(normalise))
    batches = DataLoader(train, BATCH_SIZE, shuffle=True, num_workers=2, persistent_workers=True)
    teacher = build_network(parse_spec("resnet-56"), (3, 32, 32), len(train.classes))
    weights = torch.load(teacher_file, weights_only=True, map_location="cpu")["state_dict"]
    teacher.load_state_dict({name.removeprefix("module."): tensor for name, tensor in weights.items()})
    teacher.eval()
    student = build_network(parse_spec(student_spec), (3, 32, 32), len(train.classes))
    optimiser = torch.optim.Adam(student.parameters(), lr=LR)
    for _ in range(epochs):
        student.train()
        for pixels, labels in batches:
            logits = student(pixels)
            with torch.no_grad():
                target = F.softmax(teacher(pixels) / TEMPERATURE, dim=1)
            soft = F.kl_div(F.log_softmax(logits / TEMPERATURE, dim=1), target, reduction="batchmean")
            loss = ALPHA * TEMPERATURE**2 * soft + (1 - ALPHA) * F.cross_entropy(logits, labels)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        student.eval()
        with torch.no_grad():
            correct = sum(
                (student(pixels).argmax(1) == labels).sum().item()
                for pixels, labels in DataLoader(test, 500, num_workers=2)
            )
    return float(correct / len(test))


def distil(options: argparse.Namespace, way: str, cache: Path) -> float:
    """Test accuracy of a student that our command distilled."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "kd_cli", "distill", "--json", "--dataset", options.images]
        command += ["--teacher", options.teacher, "--teacher-arch", "resnet-56"]
        command += ["--teacher-mean", "imagenet", "--teacher-std", "imagenet", "--student", options.student]
        command += ["--epochs", str(options.epochs), "--seed", str(options.seed), "--validation-fraction", "0"]
        command += ["--output", f"{folder}/student.safetensors", *OPTIONS[way]]
        run = subprocess.run(
            command, env=os.environ | {"KD_CACHE_DIR": str(cache)}, stdout=subprocess.PIPE, text=True, check=True
        )
    accuracy: float = float(json.loads(run.stdout)["accuracy"])
    return accuracy


def main() -> None:
    """Run the ways and print what they took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images")
    parser.add_argument("teacher")
    parser.add_argument("ways", nargs="*", default=WAYS, metavar="WAY")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--student", default="resnet-8")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only-first-draft", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_intermixed_args()
    if options.only_first_draft:
        print(first_draft(Path(options.images), Path(options.teacher), options.student, options.epochs, options.seed))
        return
    console = Console(width=100)
    table = Table(title=f"{options.student} distilled from ResNet-56, {options.epochs} epochs, seed {options.seed}")
    table.add_column("")
    for column in ("Seconds", "Times as fast as first-draft", "as live", "Accuracy"):
        table.add_column(column, justify="right")
    seconds: dict[str, float] = {}
    accuracies: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as cache:
        for way in options.ways:
            views = Path(cache) / "views"
            if way == "again" and not views.exists():
                distil(options, "views", views)
            start = time.perf_counter()
            if way == "first-draft":
                arguments = [sys.executable, __file__, *sys.argv[1:], "--only-first-draft"]
                accuracy = float(subprocess.run(arguments, stdout=subprocess.PIPE, text=True, check=True).stdout)
            else:
                accuracy = distil(options, way, views if way == "again" else Path(cache) / way)
            seconds[way], accuracies[way] = time.perf_counter() - start, accuracy
            console.print(f"{way}: {seconds[way]:.0f} s, {accuracy:.2%}")
    for way, took in seconds.items():
        ratios = [f"{seconds[each] / took:.2f}" if each in seconds else "" for each in WAYS[:2]]
        table.add_row(way, f"{took:.0f}", *ratios, f"{accuracies[way]:.2%}")
    console.print(table)


if __name__ == "__main__":
    main()
