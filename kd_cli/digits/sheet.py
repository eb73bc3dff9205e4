"""The paper on a page that has the digits on it."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from kd_cli.digits.boxes import Box
from kd_cli.digits.decode import Pixels
from kd_cli.digits.paper import resize, without_blocks
from kd_cli.digits.surroundings import find_inside
from kd_cli.digits.tight import pad_tight

SQUARE = 0.02
"""Of its sides, how much an image's height and width differ at most if it is square."""

DIGIT_WIDTH = 0.8
"""Width over height: the median of MNIST's training images."""

ROUNDS = 6
"""How often something may surround something: a box on a sheet on a table, and black edges of a scanner."""


@dataclass(frozen=True)
class Sheet:
    """The paper that has the digits on it, as pixels, and where on the page it is.

    Attributes:
        pixels: (height, width, 3), RGB from 0 to 1. An enlargement that repeated pixels is undone.
        left: pixels of the sheet from its left edge to that of the page; negative where paper was put around the page.
        top: the same for its upper edge.
        page: width and height of the page in pixels of the sheet.
    """

    pixels: Pixels
    left: float
    top: float
    page: tuple[int, int]

    def on_page(self, box: Box, width: int, height: int) -> Box:
        """Where a part of the sheet is on a page of this many pixels, rounded to whole ones."""
        moved = box.moved(self.left, self.top).scaled(width / self.page[0], height / self.page[1]).in_whole_pixels()
        return Box(max(moved.left, 0), max(moved.top, 0), min(moved.right, width), min(moved.bottom, height))


def find_sheet(page: Pixels) -> Sheet:
    """The innermost sheet or box of a page, (height, width, 3); or the page, with paper around ink that fills it."""
    pixels = without_blocks(page)
    height, width = pixels.shape[:2]
    padded, margin = pad_tight(pixels)
    sheet = Sheet(padded, -margin, -margin, (width, height))
    if margin:
        return _narrow(sheet) if abs(width - height) <= SQUARE * max(width, height) else sheet
    for _ in range(ROUNDS):
        inside = find_inside(sheet.pixels)
        if inside is None:
            break
        sheet = Sheet(inside.pixels, sheet.left + inside.left, sheet.top + inside.top, sheet.page)
    return sheet


def _narrow(sheet: Sheet) -> Sheet:
    """Give a digit that fills a square the proportions that digits have: it was stretched until it filled the square.

    Data sets of bitmaps are made so, Semeion's for example.
    """
    height, width = sheet.pixels.shape[:2]
    narrower = round(DIGIT_WIDTH * width)
    bands = [
        resize(band, (height, narrower), Image.Resampling.BICUBIC).clip(0, 1)
        for band in sheet.pixels.transpose(2, 0, 1)
    ]
    scale = narrower / width
    page_width, page_height = sheet.page
    return Sheet(np.stack(bands, axis=2), sheet.left * scale, sheet.top, (round(page_width * scale), page_height))
