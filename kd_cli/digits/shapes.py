"""Measures of a region's outline."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from kd_cli.digits.ink import Mask

Polygon = NDArray[np.float64]
"""Corners in order, (N, 2): distances from the top and from the left of the page, in pixels."""


def convex_hull(region: Mask) -> Polygon:
    """The smallest convex polygon around all pixels of a region that is not empty (Andrew 1979)."""
    rows = np.nonzero(region.any(axis=1))[0]
    first, last = region[rows].argmax(axis=1), region.shape[1] - region[rows, ::-1].argmax(axis=1)
    left, right = (np.stack([np.append(rows, rows + 1), np.tile(side, 2)], axis=1).tolist() for side in (first, last))
    return np.array(_bend_one_way(sorted(left)) + _bend_one_way(sorted(right, reverse=True)), np.float64)


def _bend_one_way(points: list[list[int]]) -> list[list[int]]:
    """What is left of a chain of points without those at which it does not bend to the left."""
    chain: list[list[int]] = []
    for y, x in points:
        while len(chain) > 1:
            (y0, x0), (y1, x1) = chain[-2:]
            if (y1 - y0) * (x - x0) > (y - y0) * (x1 - x0):
                break
            chain.pop()
        chain.append([y, x])
    return chain


def area(polygon: Polygon) -> float:
    """In pixels."""
    y, x = polygon.T
    return abs(float(y @ np.roll(x, -1) - x @ np.roll(y, -1))) / 2


def simplify(polygon: Polygon, corners: int) -> Polygon:
    """Leave out one corner after the other, always the one that matters least for the area (Visvalingam 1993)."""
    while len(polygon) > corners:
        before, after = np.roll(polygon, 1, axis=0) - polygon, np.roll(polygon, -1, axis=0) - polygon
        lost = np.abs(before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0])
        polygon = np.delete(polygon, lost.argmin(), axis=0)
    return polygon


def fill(polygon: Polygon, shape: tuple[int, ...]) -> Mask:
    """The pixels of a page of this shape whose centres a polygon has in it."""
    image = Image.new("L", (shape[1], shape[0]))
    ImageDraw.Draw(image).polygon([(float(x) - 0.5, float(y) - 0.5) for y, x in polygon], fill=1)
    return np.asarray(image, bool)
