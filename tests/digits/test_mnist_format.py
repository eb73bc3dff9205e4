"""What comes out is what MNIST's makers would have made of a digit, however it was drawn, lit and saved."""

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from kd_cli.config import KdError
from kd_cli.data.dataset import Dataset
from kd_cli.digits import saved
from kd_cli.digits.mnist_format import Image28, from_page, read_source
from tests.digits import pages
from tests.digits.images import decode, draw_seven, encode, see, through_pipeline

SEVEN = Image.fromarray(255 - draw_seven())


@pytest.fixture(scope="module")
def seven() -> Image28:
    return from_page(decode(SEVEN))


def as_pages(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(N, 28, 28) -> pages of that size, (N, 28, 28, 3)."""
    pixels: NDArray[np.float32] = np.repeat(images[..., None], 3, axis=3) / np.float32(255)
    return pixels


def test_the_ink_fills_twenty_pixels_and_its_mass_is_in_the_middle(seven: Image28) -> None:
    rows, columns = np.nonzero(seven)
    assert max(np.ptp(rows), np.ptp(columns)) + 1 == 20
    mass = seven / seven.sum()
    assert abs(mass.sum(axis=1) @ np.arange(28) - 14) <= 0.5
    assert abs(mass.sum(axis=0) @ np.arange(28) - 14) <= 0.5


@pytest.mark.parametrize("kind", pages.KINDS)
def test_a_digit_comes_out_alike_from_pages_of_every_kind(kind: str, seven: Image28) -> None:
    seen = see(pages.draw(seven, kind, seed) for seed in range(9))
    differences = np.abs(seen.astype(float) - seven).mean(axis=(1, 2))
    assert np.median(differences) < 10  # of 255; a blank image differs by 30


def test_what_kd_saved_passes_unchanged(seven: Image28) -> None:
    content = io.BytesIO(saved.encode(seven[np.newaxis]))
    np.testing.assert_array_equal(read_source(content, "saved"), seven)


@pytest.mark.parametrize("inverted", [False, True])
def test_images_of_mnist_come_out_alike(mnist: Dataset, inverted: bool) -> None:
    images = mnist.test.images[:200, 0].numpy()
    seen = np.stack([from_page(page) for page in as_pages(255 - images if inverted else images)])
    assert np.median(np.abs(seen.astype(float) - images).mean(axis=(1, 2))) < 10  # a blank image differs by 30


@pytest.mark.parametrize("grey", [60, 140])
def test_grey_ink_of_one_pixel_comes_out_as_ink_does_in_an_image_of_mnists_size(grey: int) -> None:
    page = np.zeros((1, 28, 28), np.uint8)
    page[0, 4:24, 14] = page[0, 4, 10:14] = grey
    seen = from_page(as_pages(page)[0])
    assert seen.max() > 200
    assert seen[14].sum() / 255 > 1.4


@pytest.mark.parametrize("pen", [1, 2, 6, 40])
def test_strokes_come_out_about_as_thick_whatever_the_pen(pen: int) -> None:
    page = np.full((400, 400), 255, np.uint8)
    page[50:350, 200 : 200 + pen] = 0
    page[50 : 50 + pen, 120:200] = 0
    column = from_page(decode(Image.fromarray(page)))[14].astype(float) / 255
    assert 1 <= column.sum() <= 4.5


def test_a_blank_image_is_refused_in_one_line_with_its_name(tmp_path: Path) -> None:
    file = tmp_path / "white.png"
    Image.new("L", (50, 50), "white").save(file)
    with pytest.raises(KdError, match=r"white\.png is blank: use an image with a digit in it"):
        read_source(file, str(file))


@settings(max_examples=60, deadline=None)
@given(
    file_format=st.sampled_from(["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF"]),
    changes=st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), max_size=8),
    length=st.integers(0, 4000),
)
def test_a_damaged_file_is_read_or_refused(file_format: str, changes: list[tuple[int, int]], length: int) -> None:
    content = bytearray(encode(SEVEN.resize((56, 56)), file_format)[: max(length, 20)])
    for place, value in changes:
        content[place % len(content)] = value
    assert through_pipeline(bytes(content)).shape == (28, 28)
