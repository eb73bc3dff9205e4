"""Data sets that a Python program hands over: tensors, arrays, or torch's data sets, under a name of this process."""

import hashlib
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kd_cli.config import ConfigError
from kd_cli.data.dataset import DataInfo, Dataset, Split
from kd_cli.data.moments import Moments

MAX_CHANNELS = 16


class MapDataset(Protocol):
    """What torch calls a map-style data set: pairs of an image and its label, by their number."""

    def __getitem__(self, index: int) -> Any:
        """An image, and the number of its class."""

    def __len__(self) -> int:
        """How many there are."""


Array: TypeAlias = Tensor | NDArray[Any]

Part: TypeAlias = MapDataset | tuple[Array, Array]
"""The images of a split, (N, C, H, W) or (N, H, W), and their labels, (N,); or a data set of torch's kind."""

_handed_over: dict[str, Dataset] = {}


def hand_over(train: Part, test: Part) -> str:
    """The name of a data set, for `DataConfig` in this process. The same images have the same name.

    Args:
        train: the images to learn from. Pixels are bytes, or floats from 0 to 1; not normalised.
        test: the images to test on.

    Raises:
        ConfigError: images or labels are not of these forms, or do not fit together.
    """
    splits = {"train": _read(train, "train"), "test": _read(test, "test")}
    images = splits["train"].images
    if splits["test"].images.shape[1:] != images.shape[1:]:
        raise ConfigError(
            f"images of shape {tuple(images.shape[1:])} to train on and {tuple(splits['test'].images.shape[1:])} to "
            "test on: bring them to one shape"
        )
    count = int(max(split.labels.max() for split in splits.values())) + 1
    names = getattr(train, "classes", None) or range(count)
    if not 2 <= count <= len(names) or min(split.labels.min() for split in splits.values()) < 0:
        raise ConfigError(f"labels up to {count - 1} for {len(names)} classes: number 2 or more classes from 0")
    digest = hashlib.sha256()
    for split in splits.values():
        digest.update(split.images.numpy().data)
        digest.update(split.labels.numpy().data)
    moments = Moments()
    moments.add(images)
    described = moments.describe()
    info = DataInfo(
        name=f"handed-over-{digest.hexdigest()[:8]}",
        classes=tuple(map(str, names)),
        shape=(images.shape[1], images.shape[2], images.shape[3]),
        mean=described["mean"],
        std=described["std"],
        digest=digest.hexdigest(),
    )
    _handed_over[info.name] = Dataset(info, splits["train"], splits["test"])
    return info.name


def find(name: str) -> Dataset | None:
    """The data set that was handed over under a name; None without one."""
    return _handed_over.get(name)


def _read(part: Part, name: str) -> Split:
    if isinstance(part, tuple):
        images, labels = map(torch.as_tensor, part)
    elif len(part):
        pairs = [part[index] for index in range(len(part))]
        images = torch.stack([_as_tensor(image) for image, _ in pairs])
        labels = torch.tensor([int(label) for _, label in pairs])
    else:
        images, labels = torch.empty(0), torch.empty(0)
    images = images.unsqueeze(1) if images.ndim == 3 else images
    if images.ndim != 4 or images.shape[1] > MAX_CHANNELS or labels.shape != images.shape[:1] or not len(labels):
        raise ConfigError(
            f"{name}: images of shape {tuple(images.shape)} with labels of shape {tuple(labels.shape)}: give "
            f"(N, C, H, W), with up to {MAX_CHANNELS} channels, and (N,)"
        )
    return Split(_as_bytes(images, name).cpu().contiguous(), labels.long().cpu())


def _as_tensor(image: Any) -> Tensor:
    """An image as (C, H, W): PIL's have their channels last."""
    if isinstance(image, Tensor):
        return image
    array = torch.from_numpy(np.array(image))
    return array.unsqueeze(0) if array.ndim == 2 else array.permute(2, 0, 1)


def _as_bytes(images: Tensor, name: str) -> Tensor:
    if images.dtype == torch.uint8:
        return images
    if not images.is_floating_point() or not (images.min() >= 0 and images.max() <= 1):
        raise ConfigError(f"{name}: give pixels as bytes, or as floats from 0 to 1, before any normalisation")
    return images.mul(255).round_().to(torch.uint8)
