"""Parts of the images with equal shares of all classes: which images are set aside to test or to validate with."""

import numpy as np
import torch
from torch import Tensor

from kd_cli.config import ConfigError
from kd_cli.data.dataset import Split

SEED = 0
"""The same images are set aside in every run: the seeds of runs differ, what they are measured with does not."""


def stratified_order(labels: Tensor) -> Tensor:
    """The rows, (N,), in an order whose beginning holds equal shares of all classes, however long it is.

    The n images of a class, shuffled, stand at 0/n, 1/n, 2/n, ... of the whole: of them, ``ceil(f * n)`` are below a
    fraction f, which is at least one. Images that are stored in this order can be divided without a copy.
    """
    shuffled = torch.from_numpy(np.random.default_rng(SEED).permutation(len(labels)))
    places = torch.empty(len(labels), dtype=torch.float64)
    for label in labels.unique():
        rows = shuffled[labels[shuffled] == label]
        places[rows] = torch.arange(len(rows), dtype=torch.float64) / len(rows)
    return shuffled[torch.sort(places[shuffled], stable=True).indices]


def count_below(fraction: float, labels: Tensor, option: str, classes: tuple[str, ...]) -> int:
    """How many rows at the beginning of the stratified order are a fraction of it.

    Raises:
        ConfigError: a class would have no image left after them; names ``option``.
    """
    total = 0
    for name, count in zip(classes, labels.bincount(minlength=len(classes)).tolist(), strict=True):
        share = int((torch.arange(count, dtype=torch.float64) / count < fraction).sum())
        if share == count > 0:
            raise ConfigError(
                f"--{option} {fraction:g} leaves none of the {count} images of {name!r} to train on: "
                "use a smaller fraction, or add images"
            )
        total += share
    return total


def divide(split: Split, count: int) -> tuple[Split, Split]:
    """The first ``count`` images, and the others; both are views."""
    return Split(split.images[:count], split.labels[:count]), Split(split.images[count:], split.labels[count:])
