"""Rectangles around digits, and the order in which they are read."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Box(NamedTuple):
    """A rectangle, in pixels from the left and from the top of an image: what Pillow's ``crop`` takes."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def width(self) -> float:
        """From left to right."""
        return self.right - self.left

    @property
    def height(self) -> float:
        """From top to bottom."""
        return self.bottom - self.top

    @property
    def side(self) -> float:
        """The longer one of width and height."""
        return max(self.width, self.height)

    def moved(self, right: float, down: float) -> "Box":
        """The same rectangle, so much further to the right and down."""
        return Box(self.left + right, self.top + down, self.right + right, self.bottom + down)

    def is_level_with(self, other: "Box") -> bool:
        """Whether one of the two has at least half of the other's height in common with it."""
        return min(self.bottom, other.bottom) - max(self.top, other.top) >= 0.5 * min(self.height, other.height)

    def is_in_line_with(self, other: "Box") -> bool:
        """The same of their width: one is above the other, or in it."""
        return min(self.right, other.right) - max(self.left, other.left) >= 0.5 * min(self.width, other.width)

    def scaled(self, horizontally: float, vertically: float) -> "Box":
        """The same rectangle in an image that is larger by these factors."""
        return Box(self.left * horizontally, self.top * vertically, self.right * horizontally, self.bottom * vertically)

    def in_whole_pixels(self) -> "Box":
        """The smallest rectangle of whole pixels that has this one in it."""
        return Box(math.floor(self.left), math.floor(self.top), math.ceil(self.right), math.ceil(self.bottom))


def in_reading_order(boxes: Sequence[Box]) -> list[int]:
    """The places of boxes in the order in which they are read: line by line from the top, each line from the left.

    A box belongs to the line whose last box it is level with. So lines may slope, and boxes differ in size.
    """
    lines: list[list[int]] = []
    for place in sorted(range(len(boxes)), key=lambda place: boxes[place].left):
        box = boxes[place]
        level = [line for line in lines if box.is_level_with(boxes[line[-1]])]
        if level:
            min(
                level, key=lambda line: abs(boxes[line[-1]].top + boxes[line[-1]].bottom - box.top - box.bottom)
            ).append(place)
        else:
            lines.append([place])
    centres = np.array([((box.left + box.right) / 2, (box.top + box.bottom) / 2) for box in boxes])
    across, down = np.concatenate([centres[line] - centres[line].mean(axis=0) for line in lines]).T
    slope = across @ down / max(across @ across, 1)  # that of all lines together
    lines.sort(key=lambda line: float((centres[line] @ (-slope, 1)).mean()))
    return [place for line in lines for place in line]
