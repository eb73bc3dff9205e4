from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from kd_cli.config import AUGMENTATIONS
from kd_cli.data.augmentation import MAX_TURN, PRESETS, apply_maps, augment, draw_maps
from kd_cli.data.dataset import Dataset, to_pixels
from kd_cli.networks.checkpoint import load_checkpoint

Presets = tuple[str, ...]

EACH = pytest.mark.parametrize(
    "presets", [*((name,) for name in AUGMENTATIONS), ("shift", "warp"), AUGMENTATIONS], ids=",".join
)
WHOLE_PIXELS = pytest.mark.parametrize("presets", [("shift",), ("flip-crop",), ("shift", "flip-crop")], ids=",".join)
SHAPES = pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (4, 24, 40), (3, 97, 64), (1, 5, 3)])


def random(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(count: int, *shape: int) -> Tensor:
    return torch.randint(0, 256, (count, *shape), dtype=torch.uint8, generator=random(9))


def spot(count: int, channels: int = 1) -> Tensor:
    """Images with one bright pixel in the middle, which shows where an image went."""
    images = torch.zeros(count, channels, 28, 28, dtype=torch.uint8)
    images[:, :, 14, 14] = 255
    return images


def places(images: Tensor) -> set[tuple[int, int]]:
    """Where the bright pixel of `spot` went, down and to the right."""
    _, _, rows, columns = torch.nonzero(images, as_tuple=True)
    return set(zip((rows - 14).tolist(), (columns - 14).tolist(), strict=True))


def test_every_name_has_its_preset() -> None:
    assert tuple(PRESETS) == AUGMENTATIONS


def test_shift_moves_images_to_all_places_up_to_two_pixels_away() -> None:
    steps = range(-2, 3)
    assert places(augment(spot(500), ("shift",), random())) == {(down, right) for down in steps for right in steps}


@WHOLE_PIXELS
@SHAPES
def test_whole_pixel_maps_give_the_pixels_of_flips_and_crops_of_a_padded_image(
    presets: Presets, shape: tuple[int, int, int]
) -> None:
    _, height, width = shape
    images = noise(64, *shape)
    maps = draw_maps(presets, 64, (height, width), random())
    for before, after, own in zip(images, apply_maps(images, maps, presets), maps, strict=True):
        right, down = round(float(own[0, 2]) * width / 2), round(float(own[1, 2]) * height / 2)
        flipped = before.flip(2) if own[0, 0] < 0 else before
        padded = F.pad(flipped, [width, width, height, height])
        right = -right if own[0, 0] < 0 else right
        left, top = width + right, height + down
        assert torch.equal(after, padded[:, top : top + height, left : left + width])


@SHAPES
def test_moving_by_whole_pixels_is_resampling_by_the_same_maps(shape: tuple[int, int, int]) -> None:
    images = noise(64, *shape)
    maps = draw_maps(("shift",), 64, shape[1:], random())
    assert torch.equal(apply_maps(images, maps, ("shift",)), apply_maps(images, maps, ("flip-crop",)))


def test_flip_crop_flips_half_of_the_images_and_moves_them_by_up_to_four_of_32_pixels() -> None:
    maps = draw_maps(("flip-crop",), 2000, (32, 32), random())
    assert 900 < (maps[:, 0, 0] == -1).sum() < 1100
    steps = maps[:, :, 2] * 16
    assert steps.unique().tolist() == list(range(-4, 5))
    assert len(steps.unique(dim=0)) == 81


def test_resized_crops_lie_in_the_image_and_have_the_areas_and_shapes_of_the_paper() -> None:
    maps = draw_maps(("resized-crop",), 2000, (24, 40), random())
    across, down, offset = maps[:, 0, 0].abs(), maps[:, 1, 1], maps[:, :, 2].abs()
    assert max(across.max(), down.max()) <= 1
    assert (offset <= 1 - torch.stack([across, down], dim=1) + 1e-6).all()
    area, ratio = across * down, across * 40 / (down * 24)
    whole = (across < 1) & (down < 1)
    assert 0.08 <= area.min() < 0.1
    assert area.max() > 0.85
    assert 0.74 < ratio[whole].min() < 0.8 < 1.3 < ratio[whole].max() < 1.34
    assert 900 < (maps[:, 0, 0] < 0).sum() < 1100


def test_resized_crop_enlarges_what_it_shows() -> None:
    images = torch.zeros(200, 1, 40, 40, dtype=torch.uint8)
    images[..., 16:24, 16:24] = 255
    bright = (augment(images, ("resized-crop",), random()) > 127).flatten(1).sum(dim=1)
    assert bright.max() > 4 * 64


def test_presets_are_applied_one_after_the_other() -> None:
    """Moved and then flipped and moved, in one map: as two maps would do it, but for what leaves the image between."""
    images = torch.zeros(100, 1, 40, 40, dtype=torch.uint8)
    images[:, :, 12:28, 12:28] = noise(100, 1, 16, 16)
    for first, second in (("shift", "flip-crop"), ("flip-crop", "shift")):
        one, two = random(), random()
        together = augment(images, (first, second), one)
        assert torch.equal(together, augment(augment(images, (first,), two), (second,), two))


def test_warp_changes_every_image_and_leaves_it_readable(mnist: Dataset, shipped: Path) -> None:
    images, labels = mnist.test.images[:1000], mnist.test.labels[:1000]
    warped = augment(images, ("warp",), random())
    assert (warped != images).flatten(1).any(dim=1).all()
    teacher = load_checkpoint(shipped / "mnist" / "teacher.safetensors", torch.device("cpu")).classifier
    with torch.no_grad():
        assert (teacher(to_pixels(warped)).argmax(dim=1) == labels).float().mean() > 0.97


def test_warp_turns_and_scales_within_its_bounds() -> None:
    bar = torch.zeros(400, 1, 28, 28, dtype=torch.uint8)
    bar[:, :, 4:24, 13:15] = 255
    seen = augment(bar, ("warp",), random()).squeeze(1) > 0
    rows = seen.any(dim=2).sum(dim=1)
    columns = seen.any(dim=1).sum(dim=1)
    assert 15 <= rows.min() < 19 < 21 < rows.max() <= 25  # 20 as it was; scale, stretch and blur
    assert columns.min() <= 4  # upright still occurs
    assert 5 < columns.max() <= 13  # and so does a turn of MAX_TURN degrees with a slant
    assert MAX_TURN == 12


def test_warp_turns_oblong_images_without_slanting_them() -> None:
    """The maps of an oblong image are, in pixels, those of a square one."""
    square, oblong = (draw_maps(("warp",), 50, size, random())[:, :, :2] for size in ((28, 28), (24, 40)))
    in_pixels = oblong * torch.tensor([[1, 40 / 24], [24 / 40, 1]])
    torch.testing.assert_close(in_pixels, square)


@EACH
@SHAPES
def test_shape_and_type_stay(presets: Presets, shape: tuple[int, int, int]) -> None:
    images = noise(5, *shape)
    augmented = augment(images, presets, random())
    assert (augmented.shape, augmented.dtype) == (images.shape, torch.uint8)


@EACH
def test_channels_of_an_image_move_together(presets: Presets) -> None:
    moved = augment(noise(50, 1, 28, 28).expand(-1, 3, -1, -1), presets, random())
    assert torch.equal(moved, moved[:, :1].expand_as(moved))


@EACH
def test_images_are_changed_independently_of_each_other(presets: Presets) -> None:
    assert len(augment(noise(1, 1, 28, 28).expand(20, -1, -1, -1), presets, random()).flatten(1).unique(dim=0)) > 5


@EACH
def test_same_stream_gives_the_same_images_and_leaves_the_originals(presets: Presets) -> None:
    images = noise(20, 1, 28, 28)
    assert torch.equal(augment(images, presets, random()), augment(images, presets, random()))
    assert torch.equal(images, noise(20, 1, 28, 28))
    assert not torch.equal(augment(images, presets, random()), augment(images, presets, random(1)))
