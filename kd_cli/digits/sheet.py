"""The paper on a page that has the digits on it."""

from dataclasses import dataclass

from kd_cli.digits.boxes import Box
from kd_cli.digits.decode import Pixels
from kd_cli.digits.paper import without_blocks
from kd_cli.digits.surroundings import find_inside
from kd_cli.digits.tight import pad_tight

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
        return sheet
    for _ in range(ROUNDS):
        inside = find_inside(sheet.pixels)
        if inside is None:
            break
        sheet = Sheet(inside.pixels, sheet.left + inside.left, sheet.top + inside.top, sheet.page)
    return sheet
