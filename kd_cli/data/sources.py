"""The data sets that have a name, and how each is made. Free of torch, until one is made."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from string import ascii_lowercase, ascii_uppercase, digits
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

Tensors = dict[str, "Tensor"]
"""``train.images`` and ``test.images``, uint8 (N, C, H, W); ``train.labels`` and ``test.labels``, uint8 (N,)."""

DIGITS = tuple("0123456789")

CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

_CIFAR100_NAMES = """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
    caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant
    flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree
    motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate
    poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider
    squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle
    wardrobe whale willow_tree wolf woman worm
"""

CIFAR100_CLASSES = tuple(_CIFAR100_NAMES.split())


@dataclass(frozen=True)
class Source:
    """A data set by name.

    Attributes:
        folder: what its folder is called.
        classes: the names of its classes.
        make: (folder of its archives, empty scratch folder) -> its tensors. Raises `KdError`.
        shape: (channels, height, width) of its images.
        archives: the folder of its archives, where it shares them with others.
    """

    folder: str
    classes: tuple[str, ...]
    make: Callable[[Path, Path], Tensors]
    shape: tuple[int, int, int] = (1, 28, 28)
    archives: str | None = None


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


def _from_torchvision(
    name: str, classes: tuple[str, ...], shape: tuple[int, int, int] = (1, 28, 28), part: str = ""
) -> Source:
    def make(archives: Path, scratch: Path) -> Tensors:
        from kd_cli.data.download import fetch

        return fetch(name, archives, scratch, part=part)

    return Source(f"{name}/{part}" if part else name, classes, make, shape, f"{name}/raw" if part else None)


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
    "qmnist": _from_torchvision("QMNIST", DIGITS),
    "emnist-digits": _from_torchvision("EMNIST", DIGITS, part="digits"),
    "emnist-letters": _from_torchvision("EMNIST", tuple(ascii_lowercase), part="letters"),
    "emnist-balanced": _from_torchvision("EMNIST", tuple(digits + ascii_uppercase + "abdefghnqrt"), part="balanced"),
    "usps": _from_torchvision("USPS", DIGITS, (1, 16, 16)),
    "svhn": _from_torchvision("SVHN", DIGITS, (3, 32, 32)),
    "cifar10": _from_torchvision("CIFAR10", CIFAR10_CLASSES, (3, 32, 32)),
    "cifar100": _from_torchvision("CIFAR100", CIFAR100_CLASSES, (3, 32, 32)),
}
