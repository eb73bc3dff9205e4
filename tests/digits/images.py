"""What tests and benchmarks of `kd predict` share: test digits, networks, and how well pages are read."""

import io
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from kd_cli import data, predict
from kd_cli.checkpoint import Checkpoint, find, load_checkpoint
from kd_cli.pictures import read_page
from kd_cli.settings import DatasetName, KdError, Role

Picture = NDArray[np.uint8]
Labels = NDArray[np.int64]
Reader = Callable[[bytes], Picture]

BLANK: Picture = np.zeros((28, 28), np.uint8)


def load_digits(count: int) -> tuple[Picture, Labels]:
    """MNIST's first test pictures, (count, 28, 28), and their labels, from $KD_DATA_DIR."""
    test = data.load(DatasetName.mnist, Path(os.environ.get("KD_DATA_DIR", "data")), train=False).test
    return test.images[:count].numpy(), test.labels[:count].numpy()


def load_networks() -> dict[str, Checkpoint]:
    """MNIST's teacher and student, from $KD_MODELS_DIR or those that ship."""
    models_dir = Path(os.environ.get("KD_MODELS_DIR", "models"))
    cpu = torch.device("cpu")
    return {role.value: load_checkpoint(find(models_dir, DatasetName.mnist, role), cpu) for role in Role}


def through_pipeline(file: bytes) -> Picture:
    """What the networks get to see; nothing where the pipeline finds nothing, which then counts as an error."""
    try:
        return predict.from_page(read_page(io.BytesIO(file), "page"))
    except KdError:
        return BLANK


def as_a_user_would(file: bytes) -> Picture:
    """The strongest short alternative: greyscale over white, resize to 28x28, invert if the border is light."""
    image: Image.Image = Image.open(io.BytesIO(file))
    if image.mode in ("I;16", "I", "F"):
        values = np.asarray(image, np.float32)
        image = Image.fromarray((values / max(1, values.max()) * 255).astype(np.uint8))
    elif "A" in image.getbands():
        paper = Image.new("RGBA", image.size, "white")
        paper.alpha_composite(image.convert("RGBA"))
        image = paper
    grey = np.asarray(image.convert("L").resize((28, 28), Image.Resampling.LANCZOS))
    border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    return 255 - grey if np.median(border) > 127 else grey


def see(files: Iterable[bytes], reader: Reader = through_pipeline) -> Picture:
    """(N, 28, 28): what a reader makes of each file."""
    return np.stack([reader(file) for file in files])


def accuracy(network: Checkpoint, pictures: Picture, labels: Labels) -> float:
    """Share of pictures, (N, 28, 28), that a network reads right."""
    readings = predict.classify(network, pictures)
    return float(np.mean([reading.class_index == label for reading, label in zip(readings, labels, strict=True)]))


def uci_file(digit: NDArray[np.float64], side: int, resampling: Image.Resampling) -> bytes:
    """One of scikit-learn's digits, (8, 8) from 0 to 16, as a PNG file of ``side`` x ``side``."""
    image = Image.fromarray((digit / 16 * 255).round().astype(np.uint8)).resize((side, side), resampling)
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()
