"""1s as much of Europe writes them: with a long flag, and perhaps a foot.

MNIST, which was written in the United States, has next to none.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from kd_cli.digits.mnist_format import IMAGE_SIZE, Image28, like_mnist
from kd_cli.digits.signs import INK

SHORTEST = 14
"""Pixels from the top to the bottom of a 1 that gets a flag."""

PLAIN = 7
"""Pixels by which a 1 may be wider than its stem leans; with more it has a flag or a foot already."""

MARGIN = 14
"""Pixels of paper around a 1, for its flag and its foot."""

DRAWN, KEPT = 4, 2
"""How many times larger a 1 is while its strokes are drawn, and when it is handed over."""

LEAN = (-12, 28)
"""Degrees by which the stem leans to the right."""

FLAG_ANGLE, FLAG_STEEPEST = (20, 56), (40, 62)
"""Degrees from the stem to the flag, and from the vertical at most: the flag of a 1 droops, that of a 7 does not."""

FLAG_LENGTH, FLAG_SAG = (0.2, 1.0), (-0.1, 0.4)
"""Of the stem's length; and how far the flag bends down, of its own."""

FOOT_SHARE, FOOT_LEAN, FOOT_LENGTH = 0.5, 14, (0.2, 0.5)
"""How many 1s get a foot, of those whose stem leans by fewer degrees: others would look like a 2. Half its length, of
the stem's."""

PEN, THICKNESS = (0.7, 1.05), (1.5, 4.0)
"""The new strokes' width, of the stem's; and the stem's in pixels."""

STRETCH = (-0.1, 0.4)
"""The logarithm of how much wider the whole becomes."""

Point = NDArray[np.float64]


@dataclass(frozen=True)
class _Stem:
    """The one stroke of a plain 1: where it begins and ends, in pixels from the image's upper left corner."""

    top: Point
    bottom: Point
    width: float

    @property
    def height(self) -> float:
        return float(self.bottom[1] - self.top[1])

    @property
    def lean(self) -> float:
        """The angle from the vertical; positive: the top is to the right."""
        return math.atan2(self.top[0] - self.bottom[0], self.height)

    def leaning(self, angle: float) -> "tuple[_Stem, float]":
        """The stem leaning by another angle, and the columns for each row by which the image is to be sheared."""
        shear = math.tan(angle) - math.tan(self.lean)
        middle = (IMAGE_SIZE - 1) / 2
        top, bottom = (np.array([x - shear * (y - middle), y]) for x, y in (self.top, self.bottom))
        return _Stem(top, bottom, self.width), shear


def write_european(ones: NDArray[np.uint8], count: int, seed: int) -> NDArray[np.uint8]:
    """Draw a flag, and perhaps a foot, to 1s that have none, each time in another way.

    Args:
        ones: images of 1s, (N, 28, 28), white on black.
        count: how many to make.
        seed: decides which ones, and how; equal seeds, equal images.

    Returns:
        (count, 28, 28); none where no image of ``ones`` is a plain stroke.
    """
    random = np.random.default_rng(seed)
    stems = {row: stem for row, one in enumerate(ones) if (stem := _find_stem(one)) is not None}
    if not stems:
        return np.empty((0, IMAGE_SIZE, IMAGE_SIZE), np.uint8)
    drawn = [_draw(ones[row], stems[row], random) for row in random.choice(list(stems), count)]
    return np.stack(drawn)


def _find_stem(one: Image28) -> _Stem | None:
    """The stem of a 1; None if it is too short, or has a flag or a foot."""
    rows, columns = np.nonzero(one > INK)
    if not len(rows) or rows.max() - rows.min() < SHORTEST:
        return None
    first, last = rows.min(), rows.max()
    top = np.array([columns[rows <= first + 1].mean(), first])
    bottom = np.array([columns[rows >= last - 1].mean(), last])
    if np.ptp(columns) > abs(top[0] - bottom[0]) + PLAIN:
        return None
    length = math.hypot(last - first + 1, abs(top[0] - bottom[0]) + 1)
    return _Stem(top, bottom, float(np.clip(len(rows) / length, *THICKNESS)))


def _draw(one: Image28, plain: _Stem, random: np.random.Generator) -> Image28:
    lean = math.radians(random.uniform(*LEAN))
    stem, shear = plain.leaning(lean)
    side = IMAGE_SIZE + 2 * MARGIN
    page = Image.fromarray(np.pad(one, MARGIN)).resize((side * DRAWN,) * 2, Image.Resampling.BICUBIC)
    page = page.transform(
        page.size, Image.Transform.AFFINE, (1, shear, -shear * page.height / 2, 0, 1, 0), Image.Resampling.BILINEAR
    )
    pen = ImageDraw.Draw(page)
    width = round(stem.width * DRAWN * random.uniform(*PEN))
    for stroke in _choose_strokes(stem, lean, random):
        places = [tuple((point + MARGIN + 0.5) * DRAWN) for point in stroke]
        pen.line(places, fill=255, width=width, joint="curve")
        for x, y in (places[0], places[-1]):  # round ends
            pen.ellipse((x - width / 2, y - width / 2, x + width / 2, y + width / 2), fill=255)
    stretched = round(side * KEPT * math.exp(random.uniform(*STRETCH)))
    small = page.resize((stretched, side * KEPT), Image.Resampling.BOX)
    return like_mnist(np.asarray(small, np.float32) / np.float32(255))


def _choose_strokes(stem: _Stem, lean: float, random: np.random.Generator) -> Iterator[list[Point]]:
    """The flag, a curve down to the left from the stem's top; and for some 1s the foot."""
    angle = max(
        -lean - math.radians(random.uniform(*FLAG_ANGLE)),
        -math.radians(random.uniform(*FLAG_STEEPEST)),
    )
    length = stem.height * random.uniform(*FLAG_LENGTH)
    direction = np.array([math.sin(angle), math.cos(angle)])
    across = np.array([math.cos(angle), -math.sin(angle)])
    start = stem.top + np.array([0, 0.3 * stem.width])
    bend = start + length * (direction / 2 + random.uniform(*FLAG_SAG) * across)
    yield [
        (1 - t) ** 2 * start + 2 * t * (1 - t) * bend + t**2 * (start + length * direction)
        for t in np.linspace(0, 1, 12)
    ]
    if random.random() < FOOT_SHARE and lean < math.radians(FOOT_LEAN):
        half = stem.height * random.uniform(*FOOT_LENGTH) * np.array([1, random.normal(0, 0.1)])
        middle = stem.bottom - np.array([0, 0.3 * stem.width])
        yield [middle - random.uniform(0.3, 1) * half, middle + random.uniform(0.6, 1) * half]
