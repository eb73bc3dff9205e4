"""Signs in a 28x28 image that what is drawn there is no digit. Fewer than 2 in 100 digits of MNIST have one of them."""

import numpy as np
from scipy import ndimage

from kd_cli.digits.ink import EIGHT_NEIGHBOURS, Mask
from kd_cli.digits.mnist_format import Image28

INK = 100
"""Of 255: from there on, a pixel is ink."""

MOST_HOLES = 3
"""An 8 has two, and a slip of the pen may add one."""

MOST_SOLID = 20
"""Places where a pen five pixels wide fits into the ink: strokes are narrower, things in photographs are not."""

CORNER = 3 / 20
"""Of the box around the ink, from each of its corners: no digit has ink in all four, while squares, N and X do."""

NARROWEST = 8
"""Pixels of a box that has four corners: those of a 1 are all near its stroke."""


def looks_like_no_digit(image: Image28) -> bool:
    """Whether an image has ink enclosed by other ink, many holes, solid ink, or ink in all corners."""
    ink = np.pad(image > INK, 1)
    if not ink.any():
        return True
    pieces, _ = ndimage.label(ink, EIGHT_NEIGHBOURS)
    largest = pieces == 1 + np.bincount(pieces.ravel())[1:].argmax()
    enclosed = ink & ndimage.binary_fill_holes(largest) & ~largest
    holes = ndimage.label(~ink)[1] - 1
    solid = ndimage.binary_erosion(ink, np.ones((5, 5)))
    return bool(enclosed.sum() > 1 or holes > MOST_HOLES or solid.sum() > MOST_SOLID or _fills_corners(ink))


def _fills_corners(ink: Mask) -> bool:
    box = ink[ndimage.find_objects(ink.view(np.uint8))[0]]
    rows, columns = (max(1, round(side * CORNER)) for side in box.shape)
    corners = (box[vertical, horizontal] for vertical in _ends(rows) for horizontal in _ends(columns))
    return min(box.shape) > NARROWEST and all(corner.any() for corner in corners)


def _ends(length: int) -> tuple[slice, slice]:
    return slice(length), slice(-length, None)
