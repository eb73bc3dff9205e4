"""The data sets that have a name, and how each is made. Free of torch, until one is made."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

Tensors = dict[str, "Tensor"]
"""``train.images`` and ``test.images``, uint8 (N, C, H, W); ``train.labels`` and ``test.labels``, uint8 (N,)."""

DIGITS = tuple("0123456789")


@dataclass(frozen=True)
class Source:
    """A data set by name.

    Attributes:
        folder: what its folder is called.
        classes: the names of its classes.
        make: (folder of its archives, empty scratch folder) -> its tensors. Raises `KdError`.
        shape: (channels, height, width) of its images.
    """

    folder: str
    classes: tuple[str, ...]
    make: Callable[[Path, Path], Tensors]
    shape: tuple[int, int, int] = (1, 28, 28)


def _make_digits(archives: Path, scratch: Path) -> Tensors:
    """scikit-learn's 1,797 UCI digits, scaled from 8x8 into the middle 20x20 of 28x28 as MNIST's digits are.

    A fixed, stratified split: 1,297 images to train on, 500 to test on.
    """
    import torch
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split
    from torch.nn import functional as F

    images, labels = load_digits(return_X_y=True)
    pixels = torch.from_numpy(images).float().view(-1, 1, 8, 8) / 16
    scaled = F.interpolate(pixels, size=(20, 20), mode="bicubic").clamp(0, 1)
    padded = F.pad(scaled, [4] * 4).mul(255).round().to(torch.uint8)
    train, test = train_test_split(range(len(labels)), test_size=500, stratify=labels, random_state=0)
    targets = torch.from_numpy(labels).to(torch.uint8)
    return {
        "train.images": padded[train],
        "train.labels": targets[train],
        "test.images": padded[test],
        "test.labels": targets[test],
    }


def _from_torchvision(name: str, classes: tuple[str, ...]) -> Source:
    def make(archives: Path, scratch: Path) -> Tensors:
        from kd_cli.data.download import fetch

        return fetch(name, archives, scratch)

    return Source(name, classes, make)


SOURCES: dict[str, Source] = {
    "mnist": _from_torchvision("MNIST", DIGITS),
    "fashion-mnist": _from_torchvision(
        "FashionMNIST",
        (
            *("T-shirt/top", "trouser", "pullover", "dress", "coat"),
            *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
        ),
    ),
    "kmnist": _from_torchvision("KMNIST", ("お", "き", "す", "つ", "な", "は", "ま", "や", "れ", "を")),
    "digits": Source("digits", DIGITS, _make_digits),
}
