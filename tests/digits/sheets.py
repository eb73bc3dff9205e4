"""Sheets of 2 to 10 digits as people write them: side by side, in rows and grids, as telephone numbers.

They are drawn on the kinds of page of `tests.digits.pages`. Digits do not touch.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from kd_cli.digits.boxes import Box
from tests.digits import pages
from tests.digits.images import Images
from tests.digits.pages import Drawing, Random

HEIGHT = 20
"""Pixels of a digit's longer side while the sheet is laid out."""

GAPS = (0.12, 0.8)
"""Of that, how far a digit is from the one before it, from ink to ink."""

INK = 50
"""Of 255, what counts as ink where digits are told apart."""

PAGE_WIDTHS = (300, 2000)


@dataclass(frozen=True)
class Sheet:
    """The file of a sheet, and the digits on it in the order in which they are read: their places in what was drawn."""

    file: bytes
    digits: list[int]
    boxes: list[Box]

    def is_read(self, boxes: list[Box]) -> bool:
        """Whether these are the boxes of all digits, in their order: each with more than half of the area in common."""
        return len(boxes) == len(self.boxes) and all(map(_is_same, self.boxes, boxes))


def _is_same(one: Box, other: Box) -> bool:
    width = min(one.right, other.right) - max(one.left, other.left)
    height = min(one.bottom, other.bottom) - max(one.top, other.top)
    shared = max(0, width) * max(0, height)
    return shared > 0.5 * (one.width * one.height + other.width * other.height - shared)


class _Layout:
    """Ink, 0 to 255, with room for all that may come; and where the digits are."""

    def __init__(self) -> None:
        self.ink = np.zeros((8 * HEIGHT, 40 * HEIGHT), np.uint8)
        self.boxes: list[Box] = []

    def write(self, digit: NDArray[np.uint8], left: int, top: int, gap: float) -> int:
        """Put a digit where it is this far from all others, not left of ``left``; gives back where it ends."""
        height, width = digit.shape
        distance = ndimage.distance_transform_edt(self.ink < INK)
        while distance[top : top + height, left : left + width][digit >= INK].min() < gap:
            left += 1
        window = self.ink[top : top + height, left : left + width]
        np.maximum(window, digit, out=window)
        rows, columns = np.nonzero(digit >= INK)
        self.boxes.append(Box(left + columns.min(), top + rows.min(), left + columns.max() + 1, top + rows.max() + 1))
        return int(left + width)

    def dash(self, left: int, top: int) -> int:
        """Put a dash there; gives back where the next digit may start."""
        self.ink[top - 1 : top + 1, left : left + HEIGHT // 2] = 255
        return left + HEIGHT // 2


def draw(images: Images, seed: int) -> Sheet:
    """A sheet of some of these digits, which depends on nothing but them and the seed."""
    random = np.random.default_rng([seed, 14])
    lines, dashes = LAYOUTS[seed % len(LAYOUTS)](random)
    chosen = random.choice(len(images), sum(map(sum, lines)), replace=False)
    layout = _Layout()
    write(layout, [images[i] for i in chosen], lines, dashes, random)
    drawing, boxes = _on_page(layout, random)
    kind = list(pages.KINDS)[seed // len(LAYOUTS) % len(pages.KINDS)]
    return Sheet(pages.KINDS[kind](drawing, random), chosen.tolist(), boxes)


def write(
    layout: _Layout, digits: list[NDArray[np.uint8]], lines: list[list[int]], dashes: bool, random: Random
) -> None:
    """Write lines of groups of digits, each digit a little larger or smaller, higher or lower than the one before."""
    left_to_write: Iterator[NDArray[np.uint8]] = iter(digits)
    size, slope, spacing = HEIGHT * random.uniform(0.9, 1.1), random.uniform(-0.06, 0.06), random.uniform(*GAPS)
    top = 2 * HEIGHT
    for groups in lines:
        end = HEIGHT
        for number, group in enumerate(groups):
            if number:
                gap = int(HEIGHT * random.uniform(0.2, 0.4))
                end = layout.dash(end + gap, int(top + slope * end + HEIGHT / 2)) + gap if dashes else end + 3 * gap
            for _ in range(group):
                digit = _resize(next(left_to_write), size / HEIGHT * random.uniform(0.85, 1.15))
                place = int(top + slope * end + (HEIGHT - digit.shape[0]) / 2 + HEIGHT * random.uniform(-0.1, 0.1))
                gap = HEIGHT * np.clip(spacing * random.uniform(0.7, 1.3), *GAPS)
                end = layout.write(digit, max(0, end - HEIGHT // 4), place, float(gap))
        top += int(HEIGHT * random.uniform(1.5, 2))


def _resize(digit: NDArray[np.uint8], scale: float) -> NDArray[np.uint8]:
    """The digit alone, without the paper around it."""
    rows, columns = np.nonzero(digit)
    ink = Image.fromarray(digit[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1])
    size = (max(1, round(ink.width * scale)), max(1, round(ink.height * scale)))
    return np.asarray(ink.resize(size, Image.Resampling.BICUBIC))


def _on_page(layout: _Layout, random: Random) -> tuple[Drawing, list[Box]]:
    """Dark ink on light paper: the layout as large as it comes, somewhere on a page."""
    rows, columns = (np.nonzero(layout.ink.any(axis=axis))[0] for axis in (1, 0))
    first, top = columns[0], rows[0]
    ink = Image.fromarray(layout.ink[top : rows[-1] + 1, first : columns[-1] + 1])
    page_width = int(np.exp(random.uniform(*np.log(PAGE_WIDTHS))))
    scale = max(1.0, random.uniform(0.5, 0.95) * page_width / ink.width)
    size = (round(ink.width * scale), round(ink.height * scale))
    page_width = max(page_width, round(size[0] / 0.9))
    page_height = max(round(page_width * random.uniform(0.4, 1.4)), round(size[1] / 0.9))
    x, y = int(random.integers(page_width - size[0] + 1)), int(random.integers(page_height - size[1] + 1))
    cover = np.zeros((page_height, page_width), np.float32)
    cover[y : y + size[1], x : x + size[0]] = np.asarray(ink.resize(size, Image.Resampling.BICUBIC), np.float32) / 255
    paper, pen = random.uniform(0.75, 1), random.uniform(0, 0.25)
    drawing = Drawing(cover, np.full(3, paper, np.float32), np.full(3, pen, np.float32))
    boxes = [
        Box(
            x + (box.left - first) * scale,
            y + (box.top - top) * scale,
            x + (box.right - first) * scale,
            y + (box.bottom - top) * scale,
        )
        for box in layout.boxes
    ]
    return drawing, boxes


Lines = tuple[list[list[int]], bool]
"""How many digits each group of each line has, and whether groups are separated by dashes rather than by space."""


def _pair(random: Random) -> Lines:
    return [[2]], False


def _row(random: Random) -> Lines:
    return [[int(random.integers(3, 11))]], False


def _grid(random: Random) -> Lines:
    rows = int(random.integers(2, 4))
    return [[int(random.integers(2, 10 // rows + 1))]] * rows, False


def _telephone(random: Random) -> Lines:
    return [[[3, 4], [3, 3, 4], [4, 6], [2, 2, 2, 2]][random.integers(4)]], bool(random.random() < 0.5)


LAYOUTS: list[Callable[[Random], Lines]] = [_pair, _row, _grid, _telephone]
