"""Augmentation: images that look a little different each time. The same on every device, for the same seed.

A preset draws an affine map for each image, in the coordinates of `torch.nn.functional.affine_grid`: an image reaches
from -1 to 1, and the map tells where in it a place of the result is read. So presets combine into one map, and an image
is resampled once. What lies outside of an image is black.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from kd_cli.data.seeds import view_seed

REACH = 14
"""`shift` and `warp` move an image by up to its size divided by this: by 2 of 28 pixels."""

MAX_TURN, MAX_STRETCH, MAX_SLANT = 12.0, 0.12, 0.15
"""How far warping goes at most: degrees, the logarithm of a scale, and columns per row. Digits stay readable."""

PADDING = 8
"""`flip-crop` moves an image by up to its size divided by this: by 4 of 32 pixels, as He et al. 2016, section 4.2."""

CROP_AREA, CROP_RATIO = (0.08, 1.0), (3 / 4, 4 / 3)
"""Share of the area, and width over height, of a resized crop: Szegedy et al. 2015, "Going Deeper with Convolutions",
section 6, and the defaults of torchvision's `RandomResizedCrop`."""

DrawMaps = Callable[[int, int, int, torch.Generator], Tensor]
"""(images, height, width, random stream) -> maps, (N, 2, 3)."""


def augment(images: Tensor, presets: Sequence[str], random: torch.Generator) -> Tensor:
    """Change each image in a way of its own; uint8 (N, C, H, W), as before.

    Args:
        images: uint8 (N, C, H, W).
        presets: at least one of `config.AUGMENTATIONS`, in the order in which they are applied.
        random: a CPU generator.
    """
    return apply_maps(images, draw_maps(presets, len(images), images.shape[2:], random), presets)


def draw_maps(presets: Sequence[str], count: int, size: Sequence[int], random: torch.Generator) -> Tensor:
    """The maps of some images, (count, 2, 3), on the CPU, so that every device sees the same ones.

    Args:
        presets: at least one of `config.AUGMENTATIONS`, in the order in which they are applied.
        count: how many images.
        size: their height and width.
        random: a CPU generator.
    """
    height, width = size
    maps, *others = (PRESETS[preset](count, height, width, random) for preset in presets)
    for other in others:  # a place is read through the later map first
        product = maps[:, :, :2] @ other
        product[:, :, 2] += maps[:, :, 2]
        maps = product
    return maps


def draw_view(presets: Sequence[str], view: int, count: int, size: Sequence[int]) -> Tensor:
    """The maps of a fixed view of all images of a split, (count, 2, 3), by row: whoever asks gets the same ones."""
    return draw_maps(presets, count, size, torch.Generator().manual_seed(view_seed(view)))


def apply_maps(images: Tensor, maps: Tensor, presets: Sequence[str]) -> Tensor:
    """Resample each image by its map, which the presets drew; uint8 (N, C, H, W), as before.

    A map by whole pixels gives the pixels as they were.
    """
    if tuple(presets) == ("shift",):  # a tenth of the time of resampling, which would add a fifth to MNIST's epochs
        return _move(images, maps)
    grid = F.affine_grid(maps.to(images.device), list(images.shape), align_corners=False)
    changed = F.grid_sample(images.float(), grid, align_corners=False)
    return changed.round_().clamp_(0, 255).to(torch.uint8)


def _move(images: Tensor, maps: Tensor) -> Tensor:
    """`apply_maps` for maps that only move by whole pixels."""
    height, width = images.shape[2:]
    down, right = _reach(height), _reach(width)
    steps = (maps[:, :, 2] * maps.new_tensor([width / 2, height / 2])).round().long()
    columns, rows = (steps + steps.new_tensor([right, down])).T.to(images.device)
    places = F.pad(images, [right, right, down, down]).unfold(2, height, 1).unfold(3, width, 1)  # a view of all places
    return places[torch.arange(len(images), device=images.device), :, rows, columns]


def _shift(count: int, height: int, width: int, random: torch.Generator) -> Tensor:
    """Move each image by whole pixels in both directions."""
    rows, columns = (_draw_steps(count, _reach(size), random) for size in (height, width))
    return _stack((torch.ones(count), 0, 2 / width * columns), (0, 1, 2 / height * rows))


def _warp(count: int, height: int, width: int, random: torch.Generator) -> Tensor:
    """Turn, scale, stretch, slant and move each image."""
    angle, size, stretch, slant, right, down = 2 * torch.rand(6, count, generator=random) - 1
    angle, slant = math.radians(MAX_TURN) * angle, MAX_SLANT * slant
    size, stretch = torch.exp(MAX_STRETCH * size), torch.exp(MAX_STRETCH / 2 * stretch)
    right, down = 2 * _reach(width) / width * right, 2 * _reach(height) / height * down
    return _stack(
        (size * stretch * angle.cos(), height / width * (size * (slant - angle.sin())), right),
        (width / height * (size * angle.sin()), size / stretch * angle.cos(), down),
    )


def _flip_crop(count: int, height: int, width: int, random: torch.Generator) -> Tensor:
    """Flip half of the images, and move each by whole pixels: a crop of the image with a black margin around it."""
    flip = _draw_flips(count, random)
    rows, columns = (_draw_steps(count, round(size / PADDING), random) for size in (height, width))
    return _stack((flip, 0, 2 / width * columns), (0, 1, 2 / height * rows))


def _resized_crop(count: int, height: int, width: int, random: torch.Generator) -> Tensor:
    """Enlarge a part of each image to its size, and flip half of them. A part that would be too long is cut short."""
    flip = _draw_flips(count, random)
    area, ratio, right, down = torch.rand(4, count, generator=random)
    area = CROP_AREA[0] + (CROP_AREA[1] - CROP_AREA[0]) * area
    least, most = map(math.log, CROP_RATIO)
    ratio = torch.exp(least + (most - least) * ratio) * (height / width)
    wide, high = (area * ratio).sqrt().clamp_max(1), (area / ratio).sqrt().clamp_max(1)
    return _stack((flip * wide, 0, (2 * right - 1) * (1 - wide)), (0, high, (2 * down - 1) * (1 - high)))


PRESETS: Mapping[str, DrawMaps] = {
    "shift": _shift,
    "warp": _warp,
    "flip-crop": _flip_crop,
    "resized-crop": _resized_crop,
}


def _reach(size: int) -> int:
    return max(1, round(size / REACH))


def _draw_steps(count: int, most: int, random: torch.Generator) -> Tensor:
    return torch.randint(2 * most + 1, (count,), generator=random) - most


def _draw_flips(count: int, random: torch.Generator) -> Tensor:
    return 1.0 - 2 * torch.randint(2, (count,), generator=random)


def _stack(*rows: Sequence[Tensor | float]) -> Tensor:
    """Entries of maps, each of all images or the same for all -> (N, 2, 3)."""
    like = next(entry for entry in rows[0] if isinstance(entry, Tensor))
    entries = [torch.as_tensor(entry, dtype=like.dtype).expand_as(like) for row in rows for entry in row]
    return torch.stack(entries, dim=1).view(-1, 2, 3)
