"""What the page makes of an image is what ``kd predict`` makes of it, pixel by pixel."""

import io
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from kd_cli.config import KdError
from kd_cli.digits.decode import read_page, read_resized
from kd_cli.digits.mnist_format import Digit, read_digits, read_source
from kd_cli.digits.sheet import find_sheet
from kd_cli.digits.signs import looks_like_no_digit
from tests.app.images import as_png
from tests.app.strokes import DRAWN
from tests.html.drawings import Image8, draw, draw_anything
from tests.html.javascript import NODE, call_for_each

pytestmark = [pytest.mark.slow, pytest.mark.skipif(NODE is None, reason="needs Node.js: apt-get install nodejs")]

READ = """(pixels) => {
    const read = handwriting.read(images.toPage(pixels), %s);
    return read && { ...read, bytes: [...read.bytes] };
}"""


def read_in_javascript(images: Sequence[Image8], are_digits: bool = True) -> list[tuple[Image8, int] | None]:
    """The 28x28 image that is made of each image, and how many characters it shows; None where it is blank."""
    found = call_for_each(READ % ("true" if are_digits else "false"), images)
    return [each and (np.array(each["bytes"], np.uint8).reshape(28, 28), each["count"]) for each in found]


def read_in_python(image: Image8) -> Digit | None:
    try:
        (digit,) = read_digits(io.BytesIO(as_png(image)), "image", every=False)
    except KdError:
        return None
    return digit


def require_same(images: Sequence[Image8]) -> list[int]:
    """Compare all images; how many characters each shows."""
    counts = []
    for number, (image, found) in enumerate(zip(images, read_in_javascript(images), strict=True)):
        expected = read_in_python(image)
        assert expected is not None, number
        assert found is not None, number
        np.testing.assert_array_equal(found[0], expected.image, f"image {number}")
        assert found[1] == expected.count, number
        counts.append(found[1])
    return counts


def is_taken_for_a_sheet(image: Image8) -> bool:
    """Whether ``kd predict`` takes what strokes go round for a sheet of paper: the page does not look for any."""
    page = read_page(io.BytesIO(as_png(image)), "image")
    return find_sheet(page).pixels.shape != page.shape


def test_the_recorded_digits() -> None:
    assert require_same([draw(strokes) for _, strokes in DRAWN]) == [1] * len(DRAWN)


def test_any_strokes() -> None:
    images = [draw_anything(seed) for seed in range(40)]
    counts = require_same([image for image in images if not is_taken_for_a_sheet(image)])
    assert len(counts) >= 38
    assert 0 < sum(count > 1 for count in counts) < len(counts)


def test_strokes_that_are_thinner_or_thicker_than_those_of_mnist() -> None:
    require_same([draw(strokes, width) for width in (3, 8, 40) for _, strokes in DRAWN[::3]])


@pytest.mark.parametrize("side", [28, 60, 900, 1300])
def test_images_that_are_enlarged_or_shrunk(side: int) -> None:
    scale = side / 280
    scaled = [[[(scale * x, scale * y) for x, y in stroke] for stroke in strokes] for _, strokes in DRAWN[:4]]
    require_same([draw(strokes, 20 * scale, side) for strokes in scaled])


def test_a_drawing_that_is_not_square() -> None:
    require_same([draw(strokes)[20:260, 40:] for _, strokes in DRAWN[:4]])


def test_white_ink_on_black() -> None:
    require_same([255 - draw(strokes) for _, strokes in DRAWN[:4]])


def test_a_symmetric_drawing_lies_where_it_does_in_python() -> None:
    require_same([draw([[(140, 40), (140, 40 + length)]]) for length in range(100, 200, 20)])


def test_the_digit_with_most_ink_is_read_of_several() -> None:
    one, other = (draw(strokes)[:, 50:230] for _, strokes in (DRAWN[1], DRAWN[10]))
    assert require_same([np.hstack([one, other]), np.hstack([other, one, one])]) == [2, 3]


def test_letters_are_not_told_apart_as_digits_are() -> None:
    image = np.hstack([draw(strokes) for _, strokes in DRAWN[:2]])
    ((found, count),) = read_in_javascript([image], are_digits=False)  # type: ignore[misc]
    assert count == 1
    np.testing.assert_array_equal(found, read_source(io.BytesIO(as_png(image)), "image"))


@pytest.mark.parametrize("value", [0, 127, 255])
def test_a_blank_image(value: int) -> None:
    image = np.full((280, 280, 3), value, np.uint8)
    assert read_in_python(image) is None
    assert read_in_javascript([image]) == [None]


def photograph(height: int, width: int) -> Image8:
    """Smooth colours with some noise."""
    random = np.random.default_rng(height * width)
    small = Image.fromarray(random.integers(0, 256, (6, 6, 3), np.uint8))
    noise = random.integers(-20, 21, (height, width, 3))
    return np.clip(np.asarray(small.resize((width, height))) + noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28), (3, 24, 40)])
def test_images_that_are_no_handwriting_are_resized_alike(shape: tuple[int, int, int]) -> None:
    sizes = [(32, 32), (28, 28), (24, 40), (300, 200), (200, 301), (17, 90), (90, 17), (11, 7), (640, 1000)]
    images = [photograph(*size) for size in sizes]
    found = call_for_each(f"(pixels) => [...images.toShape(pixels, {list(shape)})]", images)
    for image, pixels in zip(images, found, strict=True):
        expected = read_resized(io.BytesIO(as_png(image)), "image", shape)
        difference = np.abs(np.array(pixels).reshape(shape) - expected)
        # Pillow chooses which axis it scales first, by rules that differ between its versions, and rounds in between.
        assert difference.max() <= 4
        assert difference.mean() < 0.4


def as_rgb(image: NDArray[np.uint8]) -> Image8:
    return np.repeat(image[..., None], 3, axis=2)


def test_signs_of_no_digit() -> None:
    read = [read_in_python(draw_anything(seed)) for seed in range(1, 40)]
    images = [each.image for each in read if each] + [np.zeros((28, 28), np.uint8), np.full((28, 28), 255, np.uint8)]
    expected = [looks_like_no_digit(image) for image in images]
    assert set(expected) == {True, False}
    function = "(pixels) => signs.looksLikeNoDigit(Uint8Array.from({ length: 784 }, (_, i) => pixels.data[4 * i]))"
    assert call_for_each(function, [as_rgb(image) for image in images]) == expected
