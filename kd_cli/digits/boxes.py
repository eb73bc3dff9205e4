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
        level = [line for line in lines if _are_level(boxes[line[-1]], box)]
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


def _are_level(one: Box, other: Box) -> bool:
    """Whether the one's vertical extent has at least half of the other's in it, or the other way round."""
    shared = min(one.bottom, other.bottom) - max(one.top, other.top)
    return shared >= 0.5 * min(one.height, other.height)
