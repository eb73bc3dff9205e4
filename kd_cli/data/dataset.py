"""Data sets in memory: what they are, and their splits. Free of torch until there are images."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor

DIGITS = frozenset(("mnist", "qmnist", "emnist-digits", "digits", "usps"))
"""Data sets of single digits, written by hand."""

HANDWRITING = DIGITS | {"emnist-letters", "emnist-balanced", "kmnist"}
"""Data sets of single characters, written by hand."""


@dataclass(frozen=True)
class DataInfo:
    """What a network must know of the data that it learns from; stored in every checkpoint.

    Attributes:
        name: what ``--dataset`` calls it.
        classes: the classes' names, in the order of the labels.
        shape: (channels, height, width) of an image.
        mean: of the training pixels, one for each channel, on a scale where white is 1.
        std: their standard deviation, likewise.
        digest: SHA-256 of images and labels: equal digests, equal data.
        image_size: what a folder's images were told to be brought to; None where nothing was told.
        test_fraction: the share of a folder's images that was set aside to test with; None of data that say themselves
            which these are, and in checkpoints of earlier versions.
    """

    name: str
    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    digest: str
    image_size: int | None = None
    test_fraction: float | None = None

    @property
    def is_handwriting(self) -> bool:
        """Whether a user's image of this kind is a page with ink on it, to be brought to the form of MNIST's images."""
        return self.name in HANDWRITING and self.shape == (1, 28, 28)

    @property
    def is_digits(self) -> bool:
        """Whether it is handwriting of digits: then a page with several pieces of ink can be told to show several."""
        return self.is_handwriting and self.name in DIGITS


@dataclass(frozen=True)
class Split:
    """Images, uint8 (N, channels, height, width), and their labels, int64 (N,)."""

    images: "Tensor"
    labels: "Tensor"

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: "torch.device") -> "Split":
        """This split on another device."""
        return Split(self.images.to(device), self.labels.to(device))


@dataclass(frozen=True)
class Dataset:
    """A data set; ``train`` is empty where only the test images were asked for.

    ``validation`` holds the training images that were set aside to choose by, which ``train`` lacks; None without any.
    ``source`` is the folder of its images, or of its archives; None where a program handed it over. ``file`` is the
    prepared file that it was read from, if there is one.
    """

    info: DataInfo
    train: Split
    test: Split
    validation: Split | None = None
    source: Path | None = None
    file: Path | None = None

    @property
    def device(self) -> "torch.device":
        """Where its images are."""
        return self.test.images.device

    def to(self, device: "torch.device") -> "Dataset":
        """This data set on another device."""
        validation = self.validation and self.validation.to(device)
        return replace(self, train=self.train.to(device), test=self.test.to(device), validation=validation)


def to_pixels(images: "Tensor") -> "Tensor":
    """uint8 images -> what classifiers take: floats from 0 to 1, of the same shape."""
    return images.float().mul_(1 / 255)
