"""Augmentation: images that look a little different each time. The same on every device, for the same seed."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

MAX_SHIFT = 2
"""Pixels by which an image is moved at most, in each direction."""

MAX_TURN, MAX_STRETCH, MAX_SLANT = 12.0, 0.12, 0.15
"""How far warping goes at most: degrees, the logarithm of a scale, and columns per row. Digits stay readable."""


def shift(images: Tensor, random: torch.Generator) -> Tensor:
    """Move each image by up to `MAX_SHIFT` pixels in both directions; uint8 (N, C, H, W), as before.

    Args:
        images: uint8 (N, C, H, W).
        random: a CPU generator, so that every device sees the same shifts.
    """
    height, width = images.shape[2:]
    places = 2 * MAX_SHIFT + 1
    rows, columns = torch.randint(places, (2, len(images)), generator=random).to(images.device)
    windows = F.pad(images, [MAX_SHIFT] * 4).unfold(2, height, 1).unfold(3, width, 1)  # a view of all places
    return windows[torch.arange(len(images), device=images.device), :, rows, columns]


def warp(images: Tensor, random: torch.Generator) -> Tensor:
    """Turn, scale, stretch, slant and move each image, by amounts of its own; uint8 (N, C, H, W), as before."""
    height, width = images.shape[2:]
    amounts = (2 * torch.rand(6, len(images), generator=random) - 1).to(images.device)
    angle, size, stretch, slant, right, down = amounts
    angle, slant = math.radians(MAX_TURN) * angle, MAX_SLANT * slant
    size, stretch = torch.exp(MAX_STRETCH * size), torch.exp(MAX_STRETCH / 2 * stretch)
    right, down = 2 * MAX_SHIFT / width * right, 2 * MAX_SHIFT / height * down  # an image is 2 wide and high here
    rows = (size * stretch * angle.cos(), size * (slant - angle.sin()), right)
    columns = (size * angle.sin(), size / stretch * angle.cos(), down)
    places = torch.stack([torch.stack(rows, dim=1), torch.stack(columns, dim=1)], dim=1)
    grid = F.affine_grid(places, list(images.shape), align_corners=False)
    warped = F.grid_sample(images.float(), grid, align_corners=False)
    return warped.round_().clamp_(0, 255).to(torch.uint8)
