"""An image of a handwritten digit -> a 28x28 image as MNIST's makers would have made it.

LeCun et al. 1998 ("Gradient-Based Learning Applied to Document Recognition", section III) describe how: the ink, white
on black, is scaled with its proportions into 20x20 pixels, and the result is placed in 28x28 so that its centre of mass
is in the middle.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from kd_cli.config import KdError
from kd_cli.digits.boxes import Box
from kd_cli.digits.decode import Pixels, read_page, read_with_size
from kd_cli.digits.ink import find_digits, find_ink
from kd_cli.digits.saved import is_ours
from kd_cli.digits.sheet import find_sheet

Image28 = NDArray[np.uint8]
"""A digit as MNIST has them, (28, 28): 0 is paper, 255 is ink."""

IMAGE_SIZE = 28

INK_BOX = 20
"""Side, in pixels, of the square into which the ink is scaled."""

INK_LEVEL = 0.25
"""Share of full ink from which a pixel counts as ink when the image is cropped."""

STROKES = (1.8, 3.0)
"""Pixels of 28: strokes thinner or thicker on average are brought to this; seven in ten of MNIST's lie within."""

FINE_SIDES = (80, 240)
"""Pixels on the longer side of the ink while its strokes are measured: enough for a thin pen on a large page."""


@dataclass(frozen=True)
class Digit:
    """One of the digits that an image file shows.

    Attributes:
        image: the digit as MNIST would have it.
        box: where it is in the upright image, in pixels.
        number: its place among them, from 1, in the order in which they are read.
        count: how many they are.
    """

    image: Image28
    box: Box
    number: int
    count: int


def read_digits(source: Path | BinaryIO, name: str, every: bool) -> list[Digit]:
    """Read each digit in an image file, line by line, or else the one with most ink.

    Args:
        source: a path, or an open file that can be sought in.
        name: what error messages call it.
        every: read each digit.

    Raises:
        KdError: there is no such file, it is not an image, it is damaged, too large, or blank.
    """
    page, (width, height) = read_with_size(source, name)
    unchanged = _unchanged(source, page)
    if unchanged is not None:
        return [Digit(unchanged, Box(0, 0, IMAGE_SIZE, IMAGE_SIZE), 1, 1)]
    sheet = find_sheet(page)
    with _blank_named(name):
        found = find_digits(sheet.pixels)
    heaviest = max(found, key=lambda digit: digit.mass)
    return [
        Digit(
            like_mnist(digit.values),
            sheet.on_page(digit.box, width, height),
            number,
            len(found),
        )
        for number, digit in enumerate(found, start=1)
        if every or digit is heaviest
    ]


def read_source(source: Path | BinaryIO, name: str) -> Image28:
    """Read an image file of one character as a 28x28 image like those of MNIST: white ink on black.

    Args:
        source: a path, or an open file that can be sought in.
        name: what error messages call it.

    Raises:
        KdError: as `read_digits`.
    """
    page = read_page(source, name)
    with _blank_named(name):
        unchanged = _unchanged(source, page)
        return from_page(page) if unchanged is None else unchanged


def from_page(page: Pixels) -> Image28:
    """What MNIST's makers would have made of a page, (height, width, 3), RGB from 0 to 1.

    Raises:
        KdError: the page is blank.
    """
    return like_mnist(find_ink(find_sheet(page).pixels))


def like_mnist(ink: Pixels) -> Image28:
    """Crop to the ink, scale it into 20x20 with its proportions, and centre it by mass in 28x28.

    Args:
        ink: any height and width; 0 is paper, 1 is ink; not blank.
    """
    cropped = _crop(ink)
    fine = _fit(cropped, int(np.clip(max(cropped.shape), *FINE_SIDES)))
    scaled = _fit(_crop(_normalise_strokes(fine)), INK_BOX)
    height, width = scaled.shape
    image: Pixels = np.zeros((IMAGE_SIZE, IMAGE_SIZE), np.float32)
    top, left = (_corner(scaled.sum(axis=axis), IMAGE_SIZE) for axis in (1, 0))
    image[top : top + height, left : left + width] = scaled
    return _to_bytes(image)


@contextmanager
def _blank_named(name: str) -> Iterator[None]:
    try:
        yield
    except KdError as error:
        raise KdError(f"{name} is blank: use an image with a digit in it") from error


def _unchanged(source: Path | BinaryIO, page: Pixels) -> Image28 | None:
    """A page that this program saved as what networks saw; else None. MNIST's own digits are read as all others are."""
    return _to_bytes(page[..., 0]) if page.shape[:2] == (IMAGE_SIZE, IMAGE_SIZE) and is_ours(source) else None


def _crop(ink: Pixels) -> Pixels:
    rows, columns = np.nonzero(ink > INK_LEVEL * ink.max())
    return ink[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]


def _fit(ink: Pixels, side: int) -> Pixels:
    """Scale with its proportions, so that the longer side is ``side`` pixels."""
    scale = side / max(ink.shape)
    height, width = (max(1, round(length * scale)) for length in ink.shape)
    resampling = Image.Resampling.BOX if scale < 1 else Image.Resampling.BICUBIC
    scaled: Pixels = np.asarray(Image.fromarray(ink).resize((width, height), resampling)).clip(0, 1)
    return scaled


def _normalise_strokes(ink: Pixels) -> Pixels:
    """Make strokes that are thinner or thicker than MNIST's thicker or thinner, by moving the ink's outline."""
    unit = max(ink.shape) / INK_BOX
    ink = np.pad(ink, round(unit * STROKES[0]))  # room for strokes to grow
    inside = ink > 0.5 * ink.max()
    depth = ndimage.distance_transform_edt(inside)
    # Across a stroke the depth rises from 1 to half the width and falls again: on average, half more than a quarter.
    width = 4 * (float(depth[inside].mean()) - 0.5) / unit
    target = float(np.clip(width, *STROKES))
    if target == width:
        return ink
    outline = np.where(inside, depth - 0.5, 0.5 - ndimage.distance_transform_edt(~inside)) / unit
    moved: Pixels = (outline + (target - width) / 2 + 0.5).clip(0, 1).astype(np.float32)
    return moved


def _corner(mass: Pixels, size: int) -> int:
    """Where to start along one axis, so that the centre of mass comes to the middle pixel and nothing is cut off.

    MNIST's centres of mass lie between 14.0 and 15.0, counted from the edge: half a pixel past the middle on average.
    """
    centre = float((np.arange(len(mass)) + 0.5) @ mass / mass.sum())
    # Of a symmetric drawing, the middle may lie just between two places: rounding errors must not choose.
    return int(np.clip(round((size + 1) / 2 - round(centre, 5)), 0, size - len(mass)))


def _to_bytes(image: Pixels) -> Image28:
    rounded: Image28 = (image * 255).round().astype(np.uint8)
    return rounded
