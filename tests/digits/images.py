"""Image files and the digits in them, for tests and benchmarks of `kd predict`; and how well networks predict them."""

import io
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from kd_cli.commands.classify import classify
from kd_cli.config import DataConfig, KdError, Role
from kd_cli.data import prepared
from kd_cli.digits.decode import Pixels, read_page
from kd_cli.digits.mnist_format import Image28, read_digits
from kd_cli.networks.checkpoint import Checkpoint, find_checkpoint, load_checkpoint

Images = NDArray[np.uint8]
"""(N, 28, 28), as MNIST has them."""

Labels = NDArray[np.int64]
Reader = Callable[[bytes], Image28]

BLANK: Image28 = np.zeros((28, 28), np.uint8)


def draw_seven() -> NDArray[np.uint8]:
    """A digit that needs no data set: white on black, (112, 112), a bar across the top and a slanted stem."""
    rows, columns = np.mgrid[:112, :112]
    bar = (abs(rows - 26) < 5) & (columns > 34) & (columns < 80)
    stem = (rows >= 26) & (rows < 90) & (abs(columns - (76 - (rows - 26) * 0.4)) < 5)
    return np.where(bar | stem, 255, 0).astype(np.uint8)


def encode(image: Image.Image, file_format: str = "PNG", **options: object) -> bytes:
    """The content of an image file."""
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def decode(image: Image.Image, file_format: str = "PNG", **options: object) -> Pixels:
    """The page that comes from an image saved in this way."""
    return read_page(io.BytesIO(encode(image, file_format, **options)), "image")


def load_digits(count: int) -> tuple[Images, Labels]:
    """MNIST's first test images and their labels, from $KD_DATA_DIR."""
    config = DataConfig("mnist", Path(os.environ.get("KD_DATA_DIR", "data")))
    test = prepared.load(config, train=False).test
    return test.images[:count, 0].numpy(), test.labels[:count].numpy()


def load_semeion() -> tuple[Images, Labels]:
    """The Semeion set (Buscema 1998), (1593, 16, 16), 1 is ink; nothing if $KD_DATA_DIR does not have it."""
    file = Path(os.environ.get("KD_DATA_DIR", "data")) / "semeion" / "semeion.data.gz"
    rows = np.loadtxt(file) if file.exists() else np.empty((0, 266))
    return rows[:, :256].reshape(-1, 16, 16).astype(np.uint8), rows[:, 256:266].argmax(axis=1)


def semeion_file(bits: NDArray[np.uint8], side: int) -> bytes:
    """One of them, black on white, as a PNG file of ``side`` x ``side``."""
    return encode(Image.fromarray(255 * (1 - bits)).resize((side, side), Image.Resampling.NEAREST))


def load_networks(models_dir: Path) -> dict[str, Checkpoint]:
    """MNIST's teacher and student from this folder, or else those that ship."""
    cpu = torch.device("cpu")
    return {role.value: load_checkpoint(find_checkpoint(models_dir, "mnist", role), cpu) for role in Role}


def through_pipeline(file: bytes) -> Image28:
    """What the networks get to see; nothing where the pipeline finds nothing, which then counts as an error."""
    try:
        return read_digits(io.BytesIO(file), "page", every=False)[0].image
    except KdError:
        return BLANK


def as_a_user_would(file: bytes) -> Image28:
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


def see(files: Iterable[bytes], reader: Reader = through_pipeline) -> Images:
    """What a reader makes of each file."""
    return np.stack([reader(file) for file in files])


def accuracy(network: Checkpoint, images: Images, labels: Labels) -> float:
    """Share of the images that a network predicts correctly."""
    predictions = classify(network, images[:, np.newaxis])
    return float(np.mean([each.class_index == label for each, label in zip(predictions, labels, strict=True)]))


def uci_file(digit: NDArray[np.float64], side: int, resampling: Image.Resampling) -> bytes:
    """One of scikit-learn's digits, (8, 8) from 0 to 16, as a PNG file of ``side`` x ``side``."""
    return encode(Image.fromarray((digit / 16 * 255).round().astype(np.uint8)).resize((side, side), resampling))
