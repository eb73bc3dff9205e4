"""A sheet on a table, a strip, a box: the digit is read as if there were nothing but its paper."""

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from sklearn.datasets import load_digits

from kd_cli.digits.decode import Pixels
from kd_cli.digits.mnist_format import Image28, from_page
from kd_cli.digits.sheet import find_sheet
from tests.digits.images import draw_seven

COVER: Pixels = np.pad(draw_seven(), ((40, 60), (70, 50))) / np.float32(255)
"""(212, 232): 1 where the ink is."""

SHEET = 0.9 - 0.8 * COVER


def as_page(grey: NDArray[np.floating]) -> Pixels:
    page: Pixels = np.repeat(grey[..., None], 3, axis=2).astype(np.float32)
    return page


def read(grey: NDArray[np.floating]) -> Image28:
    return from_page(as_page(grey))


def on_table(sheet: Pixels, table: float, angle: float = 0) -> Pixels:
    """On a table that shows at all sides."""
    image = Image.fromarray(sheet).rotate(angle, Image.Resampling.BICUBIC, expand=True, fillcolor=-1)
    turned = np.pad(np.asarray(image), ((60, 30), (40, 90)), constant_values=-1)
    return np.asarray(np.where(turned < -0.05, table, turned.clip(0, 1)), np.float32)


def assert_like_the_sheet_alone(scene: NDArray[np.floating], tolerance: float = 2) -> None:
    assert np.abs(read(scene).astype(float) - read(SHEET)).mean() < tolerance  # a blank image differs by 30


@pytest.mark.parametrize("table", [0.0, 0.1, 0.4])
def test_a_sheet_on_a_darker_table(table: float) -> None:
    assert_like_the_sheet_alone(on_table(SHEET, table))


def test_a_dark_sheet_with_light_ink_on_a_light_table() -> None:
    assert_like_the_sheet_alone(1 - on_table(SHEET, 0.1))


@pytest.mark.parametrize("angle", [-12, 5])
def test_a_sheet_that_lies_askew(angle: float) -> None:
    scene = on_table(SHEET, 0.2, angle)
    alone = np.asarray(Image.fromarray(SHEET).rotate(angle, Image.Resampling.BICUBIC, expand=True, fillcolor=0.9))
    assert np.abs(read(scene).astype(float) - read(alone)).mean() < 2


@pytest.mark.parametrize("side", range(4))
@pytest.mark.parametrize("thickness", [4, 20, 80])
def test_a_dark_strip_at_one_side(side: int, thickness: int) -> None:
    strip = [(0, 0), (0, 0)]
    strip[side // 2] = (thickness, 0) if side % 2 else (0, thickness)
    assert_like_the_sheet_alone(np.pad(SHEET, strip, constant_values=0.15))


def test_a_corner_of_the_table() -> None:
    rows, columns = np.mgrid[: SHEET.shape[0], : SHEET.shape[1]]
    assert_like_the_sheet_alone(np.where(rows + columns < 60, 0.15, SHEET))


@pytest.mark.parametrize("line", [2, 6])
def test_a_printed_box(line: int) -> None:
    box = np.pad(SHEET[20:200, 40:210], line, constant_values=0.2)
    assert_like_the_sheet_alone(np.pad(box, ((50, 20), (30, 80)), constant_values=0.9))


def test_a_box_with_rounded_corners() -> None:
    image = Image.fromarray(np.pad(SHEET, 60, constant_values=0.9))
    right, bottom = image.width - 30, image.height - 30
    ImageDraw.Draw(image).rounded_rectangle((30, 30, right, bottom), radius=40, outline=0.2, width=4)
    assert_like_the_sheet_alone(np.asarray(image))


def test_a_box_on_a_sheet_on_a_table_with_a_scanners_edge() -> None:
    box = np.pad(SHEET[20:200, 40:210], 3, constant_values=0.2)
    scene = on_table(np.pad(box, 30, constant_values=0.9).astype(np.float32), 0.4)
    assert_like_the_sheet_alone(np.pad(scene, ((0, 0), (9, 0))))


@pytest.mark.parametrize("side", [64, 300])
def test_a_soft_digit_that_fills_the_image_is_not_taken_for_surroundings(side: int) -> None:
    for digit in load_digits().images[:30]:
        small = Image.fromarray((digit / 16 * 255).round().astype(np.uint8))
        page = as_page(np.asarray(small.resize((side, side), Image.Resampling.BICUBIC)) / 255)
        sheet = find_sheet(page)
        assert sheet.left <= 0
        assert min(sheet.pixels.shape[:2]) >= side


def drawn(*shapes: tuple[str, object], width: int = 14) -> Pixels:
    """Dark ink on light paper, (200, 200): Pillow's shapes, by their names and places."""
    image = Image.new("L", (200, 200), 230)
    for shape, place in shapes:
        options = {"fill": 20} if shape == "line" else {"outline": 20}
        getattr(ImageDraw.Draw(image), shape)(place, width=width, **options)
    page: Pixels = np.asarray(image, np.float32) / np.float32(255)
    return page


SQUARE = ("rectangle", (50, 30, 140, 170))


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(drawn(SQUARE), id="an angular 0"),
        pytest.param(drawn(SQUARE, ("line", (50, 100, 140, 100))), id="an angular 8"),
        pytest.param(drawn(("ellipse", (40, 20, 150, 180)), width=38), id="a thick 0"),
        pytest.param(drawn(("line", (100, 20, 90, 180)), width=40), id="a thick 1"),
        pytest.param(drawn(("line", (0, 7, 170, 7)), ("line", (170, 7, 60, 150))), id="a 7 at the border"),
        pytest.param(SHEET, id="a sheet alone"),
    ],
)
@pytest.mark.parametrize("inverted", [False, True])
def test_ink_is_not_taken_for_surroundings(page: Pixels, inverted: bool) -> None:
    whole = as_page(1 - page if inverted else page)
    np.testing.assert_array_equal(find_sheet(whole).pixels, whole)
