"""Shuffled batches of a data set, augmented on the way.

A data set lives in one uint8 tensor on the device that trains, and a batch is a slice of it by index. A `DataLoader`
over single pictures spends ten times longer on loading than the networks spend on learning.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from kd_cli.data import IMAGE_SIZE, Normalisation, Split

BLOCK = 512
"""Pictures to look up and normalise at a time: for a batch alone, starting the operations takes longer than they do."""

MAX_SHIFT = 2
"""Pixels by which augmentation moves a picture at most, in each direction."""

MAX_TURN, MAX_STRETCH, MAX_SLANT = 12.0, 0.12, 0.15
"""How far warping goes at most: degrees, the logarithm of a scale, and columns per row. Digits stay readable."""


@dataclass(frozen=True)
class Batch:
    """Normalised pictures (B, 1, 28, 28), their labels (B,), and their rows in the training split (B,)."""

    images: Tensor
    labels: Tensor
    index: Tensor


def batches(
    split: Split,
    batch_size: int,
    normalise: Normalisation,
    random: torch.Generator,
    augment: bool = False,
    warp: bool = False,
) -> Iterator[Batch]:
    """One epoch of shuffled batches; the last one may be smaller.

    ``random`` is a CPU generator: the order and the shifts are the same on every device.
    """
    order = torch.randperm(len(split), generator=random).to(split.images.device)
    images = _pad(split.images) if augment and not warp else split.images
    for rows in order.split(batch_size * max(1, BLOCK // batch_size)):
        chosen = images.index_select(0, rows)
        if warp:
            chosen = _warp(chosen, random)
        elif augment:
            chosen = _shift(chosen, random)
        block = (normalise(chosen), split.labels[rows], rows)
        for parts in zip(*(tensor.split(batch_size) for tensor in block), strict=True):
            yield Batch(*parts)


def _pad(images: Tensor) -> Tensor:
    return F.pad(images, [MAX_SHIFT] * 4)


def _shift(padded: Tensor, random: torch.Generator) -> Tensor:
    """Cut a 28x28 window out of each padded picture, at a place of its own."""
    places = 2 * MAX_SHIFT + 1
    rows, columns = torch.randint(places, (2, len(padded)), generator=random).to(padded.device)
    windows = padded.unfold(1, IMAGE_SIZE, 1).unfold(2, IMAGE_SIZE, 1)  # a view: (N, places, places, 28, 28)
    return windows[torch.arange(len(padded), device=padded.device), rows, columns]


def _warp(images: Tensor, random: torch.Generator) -> Tensor:
    """Turn, scale, stretch, slant and move each picture, by amounts of its own; uint8, (N, 28, 28), as before."""
    amounts = (2 * torch.rand(6, len(images), generator=random) - 1).to(images.device)
    angle, size, stretch, slant, right, down = amounts
    angle, slant = math.radians(MAX_TURN) * angle, MAX_SLANT * slant
    size, stretch = torch.exp(MAX_STRETCH * size), torch.exp(MAX_STRETCH / 2 * stretch)
    right, down = (2 * MAX_SHIFT / IMAGE_SIZE * amount for amount in (right, down))  # the picture is 2 wide here
    rows = (size * stretch * angle.cos(), size * (slant - angle.sin()), right)
    columns = (size * angle.sin(), size / stretch * angle.cos(), down)
    places = torch.stack([torch.stack(rows, dim=1), torch.stack(columns, dim=1)], dim=1)
    grid = F.affine_grid(places, [len(images), 1, IMAGE_SIZE, IMAGE_SIZE], align_corners=False)
    warped = F.grid_sample(images.unsqueeze(1).float(), grid, align_corners=False)
    return warped.squeeze(1).round_().clamp_(0, 255).to(torch.uint8)
