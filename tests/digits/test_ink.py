"""Ink is told from everything else that a page may show."""

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from kd_cli.config import KdError
from kd_cli.digits.decode import Pixels
from kd_cli.digits.ink import find_digits, find_ink
from kd_cli.digits.mnist_format import Image28, like_mnist
from kd_cli.digits.paper import without_blocks
from tests.digits.images import draw_seven

COVER: Pixels = np.pad(draw_seven(), 60) / np.float32(255)
"""(232, 232): 1 where the ink is."""

CLEAN = 1 - COVER


def find(page: NDArray[np.floating]) -> Image28:
    """The ink on a page, (height, width) for grey or (height, width, 3), as 28x28."""
    page = page.astype(np.float32)
    return like_mnist(find_ink(without_blocks(page if page.ndim == 3 else np.repeat(page[..., None], 3, axis=2))))


def assert_alike(image: Image28, expected: Image28, tolerance: float) -> None:
    assert np.abs(image.astype(float) - expected).mean() < tolerance


def test_ink_is_one_paper_is_zero_and_the_rest_of_the_page_is_cut_off() -> None:
    ink = find_ink(np.repeat(CLEAN[..., None], 3, axis=2))
    assert ink.shape[0] == pytest.approx(69, abs=30)  # the digit, and at most 15 % of its side around it
    assert (ink.min(), ink.max()) == (0, 1)
    assert ink.sum() == pytest.approx(COVER.sum(), rel=0.1)


def test_light_ink_on_dark_paper_is_seen_as_dark_on_light() -> None:
    assert_alike(find(COVER), find(CLEAN), 1)


def test_red_ink_on_a_green_as_bright_is_seen() -> None:
    red, green = np.array([220, 60, 60]), np.array([40, 135, 60])
    page = (red * COVER[..., None] + green * (1 - COVER[..., None])).round().astype(np.uint8)
    assert np.ptp(np.asarray(Image.fromarray(page).convert("L"))) < 30
    assert_alike(find(page / 255), find(CLEAN), 4)


@pytest.mark.parametrize("thickness", [2, 3])
@pytest.mark.parametrize("squared", [False, True])
def test_ruled_lines_and_specks_are_not_ink(squared: bool, thickness: int) -> None:
    page = CLEAN.copy()
    for first in range(thickness):
        page[11 + first :: 28] = np.minimum(page[11 + first :: 28], 0.47)
        if squared:
            page[:, 11 + first :: 28] = np.minimum(page[:, 11 + first :: 28], 0.47)
    page[22:25, 20:23] = page[200:203, 30:34] = 0
    assert_alike(find(page), find(CLEAN), 2)


def test_uneven_light_is_not_ink() -> None:
    assert_alike(find(CLEAN * np.linspace(1, 0.5, len(CLEAN))), find(CLEAN), 2)


@pytest.mark.parametrize("darkness", [0.35, 0.6])
def test_a_shadow_over_a_third_of_the_page_is_not_ink(darkness: float) -> None:
    shadow = darkness / (1 + np.exp((150 - np.arange(len(CLEAN))) / 5))
    assert_alike(find(CLEAN * (1 - shadow[:, None])), find(CLEAN), 2)


def test_a_soft_dark_spot_larger_than_the_digit_is_not_ink() -> None:
    rows, columns = np.mgrid[: len(CLEAN), : len(CLEAN)]
    spot = np.exp(-((rows - 116) ** 2 + columns**2) / (2 * 40**2))
    assert_alike(find(CLEAN * (1 - 0.6 * spot)), find(CLEAN), 2)


def test_noise_of_the_paper_is_not_ink() -> None:
    noise = np.random.default_rng(0).normal(0, 0.05, CLEAN.shape)
    assert_alike(find(0.5 * CLEAN + 0.25 + noise), find(CLEAN), 6)


@pytest.mark.parametrize(("side", "enlarged_side"), [(40, 280), (8, 300)])
def test_a_page_enlarged_in_blocks_is_seen_as_the_small_one(side: int, enlarged_side: int) -> None:
    small = Image.fromarray(255 - draw_seven()).resize((side, side), Image.Resampling.BOX)
    enlarged = small.resize((enlarged_side, enlarged_side), Image.Resampling.NEAREST)
    np.testing.assert_array_equal(find(np.asarray(enlarged) / 255), find(np.asarray(small) / 255))


@pytest.mark.parametrize(("enlarged", "expected"), [(1, 1), (3, 2)])
def test_two_pieces_are_two_digits_only_where_there_are_pixels_enough_to_tell(enlarged: int, expected: int) -> None:
    page = np.ones((8, 8, 3), np.float32)
    page[1:7, 1:3] = page[1:7, 5:7] = 0
    assert len(find_digits(page.repeat(enlarged, axis=0).repeat(enlarged, axis=1))) == expected


def test_a_broken_digit_keeps_its_parts() -> None:
    page = CLEAN.copy()
    page[94:99] = 1  # cuts the bar off the stem
    image = find(page)
    assert np.ptp(np.nonzero(image.any(axis=1))[0]) + 1 == 20
    assert_alike(image, find(CLEAN), 12)


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(np.ones((50, 50)), id="white"),
        pytest.param(np.zeros((28, 28)), id="black"),
        pytest.param(np.zeros((1, 1)), id="one pixel"),
        pytest.param(np.random.default_rng(0).normal(0.8, 0.04, (300, 300)), id="noise"),
        pytest.param(np.tile(np.linspace(1, 0.5, 200), (200, 1)), id="uneven light"),
    ],
)
def test_a_page_without_ink_is_blank(page: NDArray[np.float64]) -> None:
    with pytest.raises(KdError, match="blank"):
        find(page)
