"""Ink on all borders: it is told from its paper, and has paper around it."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from kd_cli.digits.boxes import Box
from kd_cli.digits.decode import Pixels
from kd_cli.digits.mnist_format import from_page
from kd_cli.digits.sheet import find_sheet


def tight(digit: int) -> Pixels:
    """1 where the ink is, (120, 80): an angular digit whose strokes lie along the borders."""
    image = Image.new("F", (80, 120))
    paths = {
        2: [(0, 10), (70, 10), (70, 60), (10, 60), (10, 110), (80, 110)],
        4: [(10, 0), (10, 60), (80, 60), (70, 60), (70, 0), (70, 120)],
        7: [(0, 10), (70, 10), (30, 120)],
    }
    ImageDraw.Draw(image).line(paths[digit], fill=1, width=20)
    return np.asarray(image)


def as_page(cover: Pixels, inverted: bool) -> Pixels:
    grey = 0.9 - 0.8 * cover
    page: Pixels = np.repeat((1 - grey if inverted else grey)[..., None], 3, axis=2).astype(np.float32)
    return page


@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize("digit", [2, 4, 7])
def test_a_digit_is_read_as_if_it_had_paper_around_it(digit: int, inverted: bool) -> None:
    cover = tight(digit)
    expected = from_page(as_page(np.pad(cover, 60), inverted=False))
    assert np.abs(from_page(as_page(cover, inverted)).astype(float) - expected).mean() < 3  # a blank one differs by 30


@pytest.mark.parametrize("side", [16, 64, 300])
def test_a_bitmap_is_read_alike_at_any_size(side: int) -> None:
    bits = np.asarray(Image.fromarray(tight(7)).resize((16, 16), Image.Resampling.BOX)) > 0.5
    small = from_page(as_page(bits.astype(np.float32), inverted=False))
    enlarged = Image.fromarray(bits).resize((side, side), Image.Resampling.NEAREST)
    np.testing.assert_array_equal(from_page(as_page(np.asarray(enlarged, np.float32), inverted=False)), small)


def test_a_digit_that_was_stretched_into_a_square_gets_the_proportions_of_a_digit() -> None:
    square = np.asarray(Image.fromarray(tight(4)).resize((120, 120)))
    own = from_page(as_page(tight(4)[:, :78], inverted=False))  # 0.65 times as wide as high
    seen = from_page(as_page(square, inverted=False))
    widths = [np.ptp(np.nonzero(image > 100)[1]) + 1 for image in (own, seen)]
    assert widths == [13, 16]  # of 20 rows: its own proportions, and those of most digits


def test_a_digit_in_a_square_is_found_where_it_is() -> None:
    square = np.asarray(Image.fromarray(tight(4)).resize((120, 120)))
    sheet = find_sheet(as_page(square, inverted=False))
    columns = np.nonzero((sheet.pixels[:, :, 0] < 0.5).any(axis=0))[0]
    found = sheet.on_page(Box(int(columns[0]), 30, int(columns[-1]) + 1, 150), 120, 120)
    assert found == pytest.approx((0, 0, 120, 120), abs=1)  # pixels


def test_a_digit_on_the_padded_sheet_is_found_on_the_page() -> None:
    sheet = find_sheet(as_page(tight(2), inverted=False))
    assert sheet.pixels.shape == (180, 140, 3)
    assert sheet.on_page(Box(30, 30, 110, 150), 160, 240) == (0, 0, 160, 240)
    assert sheet.on_page(Box(20, 40, 110, 160), 80, 120) == (0, 10, 80, 120)  # none is on the paper around the page
