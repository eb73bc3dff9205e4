"""Strokes drawn on paper, as a page's canvas has them: even paper, even ink, soft edges."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from tests.digits.drawings import curve

Image8 = NDArray[np.uint8]
Colour = tuple[int, int, int]
Points = Sequence[tuple[float, float]]

WHITE, BLACK = (255, 255, 255), (0, 0, 0)

FINER = 4
"""Strokes are drawn so many times as large, and then shrunk."""


def draw(
    strokes: Sequence[Points], width: float = 20, side: int = 280, ink: Colour = BLACK, paper: Colour = WHITE
) -> Image8:
    """An image, (side, side, 3), of strokes whose places count pixels."""
    page = Image.new("RGB", (FINER * side, FINER * side), paper)
    pen, radius = ImageDraw.Draw(page), FINER * width / 2
    for stroke in strokes:
        places = [(FINER * x, FINER * y) for x, y in stroke]
        pen.line(places, ink, round(2 * radius), joint="curve")
        for x, y in places:
            pen.ellipse([x - radius, y - radius, x + radius, y + radius], ink)
    return np.asarray(page.reduce(FINER))


def draw_anything(seed: int) -> Image8:
    """One to three smooth strokes of any width; every fourth image is in colour."""
    random = np.random.default_rng(seed)
    margin = random.uniform(15, 120)
    strokes = [
        [(float(x), float(y)) for x, y in curve(random.uniform(margin, 265, (random.integers(2, 7), 2)))]
        for _ in range(random.integers(1, 4))
    ]
    ink, paper = BLACK, WHITE
    if seed % 4 == 0:
        red, green, blue = (int(value) for value in random.integers(0, 120, 3))
        ink, paper = (red, green, blue), (255 - green, 255 - blue // 2, 255 - red // 2)
    return draw(strokes, int(random.integers(8, 41)), ink=ink, paper=paper)
