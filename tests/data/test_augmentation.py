from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from kd_cli.data.augmentation import MAX_SHIFT, MAX_TURN, shift, warp
from kd_cli.data.dataset import Dataset, to_pixels
from kd_cli.networks.checkpoint import load_checkpoint

Augmentation = Callable[[Tensor, torch.Generator], Tensor]

AUGMENTATIONS = pytest.mark.parametrize("augmentation", [shift, warp])


def random(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def spot(count: int, channels: int = 1) -> Tensor:
    """Images with one bright pixel in the middle, which shows where an image went."""
    images = torch.zeros(count, channels, 28, 28, dtype=torch.uint8)
    images[:, :, 14, 14] = 255
    return images


def test_shift_moves_images_to_all_places_up_to_two_pixels_away() -> None:
    _, _, row, column = torch.nonzero(shift(spot(500), random()), as_tuple=True)
    seen = set(zip((row - 14).tolist(), (column - 14).tolist(), strict=True))
    steps = range(-MAX_SHIFT, MAX_SHIFT + 1)
    assert seen == {(down, right) for down in steps for right in steps}


def test_shift_changes_no_pixel_but_its_place(tiny: Dataset) -> None:
    images = torch.zeros(50, 1, 32, 32, dtype=torch.uint8)
    images[:, :, 2:30, 2:30] = tiny.train.images[:50]
    moved = shift(images, random())
    for before, after in zip(images, moved, strict=True):
        assert torch.equal(before.flatten().sort().values, after.flatten().sort().values)


def test_warp_changes_every_image_and_leaves_it_readable(mnist: Dataset, shipped: Path) -> None:
    images, labels = mnist.test.images[:1000], mnist.test.labels[:1000]
    warped = warp(images, random())
    assert (warped != images).flatten(1).any(dim=1).all()
    teacher = load_checkpoint(shipped / "mnist" / "teacher.safetensors", torch.device("cpu")).classifier
    with torch.no_grad():
        assert (teacher(to_pixels(warped)).argmax(dim=1) == labels).float().mean() > 0.97


def test_warp_turns_and_scales_within_its_bounds() -> None:
    bar = torch.zeros(400, 1, 28, 28, dtype=torch.uint8)
    bar[:, :, 4:24, 13:15] = 255
    seen = warp(bar, random()).squeeze(1) > 0
    rows = seen.any(dim=2).sum(dim=1)
    columns = seen.any(dim=1).sum(dim=1)
    assert 15 <= rows.min() < 19 < 21 < rows.max() <= 25  # 20 as it was; scale, stretch and blur
    assert columns.min() <= 4  # upright still occurs
    assert 5 < columns.max() <= 13  # and so does a turn of MAX_TURN degrees with a slant
    assert MAX_TURN == 12


@AUGMENTATIONS
def test_shape_and_type_stay(augmentation: Augmentation) -> None:
    images = torch.randint(0, 256, (5, 3, 32, 24), dtype=torch.uint8)
    augmented = augmentation(images, random())
    assert (augmented.shape, augmented.dtype) == (images.shape, torch.uint8)


@AUGMENTATIONS
def test_channels_of_an_image_move_together(augmentation: Augmentation) -> None:
    moved = augmentation(spot(50, channels=3), random())
    assert torch.equal(moved, moved[:, :1].expand_as(moved))


@AUGMENTATIONS
def test_images_are_changed_independently_of_each_other(augmentation: Augmentation) -> None:
    assert len(augmentation(spot(20), random()).flatten(1).unique(dim=0)) > 5


@AUGMENTATIONS
def test_same_stream_gives_the_same_images_and_leaves_the_originals(augmentation: Augmentation) -> None:
    images = spot(20)
    assert torch.equal(augmentation(images, random()), augmentation(images, random()))
    assert torch.equal(images, spot(20))
    assert not torch.equal(augmentation(images, random()), augmentation(images, random(1)))
