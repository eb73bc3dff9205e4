"""Image files that show no digit. A file depends on nothing but its kind and its seed."""

import string
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from sklearn.datasets import load_sample_images

from tests.digits.images import encode

Random = np.random.Generator
Points = NDArray[np.float64]
"""(N, 2): x and y of a stroke, in a square from 0 to 1 whose y points down."""

LETTERS = sorted(set(string.ascii_letters) - set("OoDQCcUuVvIiLlJjtTZzEFhYySsGbBgqPp"))
"""Letters that nobody reads as a digit."""


def draw(kind: str, seed: int) -> bytes:
    """A file of one of `KINDS`, none of which is a digit."""
    return KINDS[kind](np.random.default_rng([seed, *kind.encode()]))


def _scribble(random: Random) -> bytes:
    """A pen that goes to and fro, round and round, or anywhere."""
    turns, time = random.integers(4, 10), np.linspace(0, 1, 400)
    drift = 0.2 + 0.6 * time
    match random.integers(3):
        case 0:
            across = 0.5 + random.uniform(0.2, 0.4) * np.cos(2 * np.pi * turns * time)
            strokes = [np.column_stack([across, drift] if random.random() < 0.5 else [drift, across])]
        case 1:
            radius = random.uniform(0.1, 0.3)
            angle = 2 * np.pi * turns * time
            strokes = [np.column_stack([drift + radius * np.cos(angle), 0.5 + radius * np.sin(angle)])]
        case _:
            strokes = [curve(random.uniform(0.1, 0.9, (turns + 4, 2)))]
    return _draw(strokes, random)


def _smiley(random: Random) -> bytes:
    circle = _arc(np.array([0.5, 0.5]), random.uniform(0.3, 0.42), 0, 360)
    eyes = [
        np.array([[x, y], [x + 0.005, y + random.uniform(0.01, 0.08)]])
        for x, y in zip(0.5 + random.uniform(0.1, 0.16) * np.array([-1, 1]), random.uniform(0.35, 0.42, 2), strict=True)
    ]
    mouth = _arc(np.array([0.5, 0.5]), random.uniform(0.16, 0.24), random.uniform(10, 40), random.uniform(140, 170))
    return _draw([circle, *eyes, mouth], random)


def _shape(random: Random) -> bytes:
    """A star, a heart, a house, a square with its diagonals, an arrow, or a table."""

    def polygon(*points: tuple[float, float]) -> Points:
        return np.array([*points, points[0]])

    star = np.radians(np.arange(6) * 144 - 90)
    heart = np.linspace(0, 2 * np.pi, 60)
    square = polygon((0.2, 0.2), (0.8, 0.2), (0.8, 0.8), (0.2, 0.8))
    shapes: Sequence[Sequence[Points]] = (
        [0.5 + 0.4 * np.column_stack([np.cos(star), np.sin(star)])],
        [
            0.5
            + 0.025
            * np.column_stack(
                [
                    16 * np.sin(heart) ** 3,
                    -13 * np.cos(heart) + 5 * np.cos(2 * heart) + 2 * np.cos(3 * heart) + np.cos(4 * heart),
                ]
            )
        ],
        [
            polygon((0.2, 0.45), (0.8, 0.45), (0.8, 0.85), (0.2, 0.85)),
            np.array([[0.2, 0.45], [0.5, 0.15], [0.8, 0.45]]),
        ],
        [square, np.array([[0.2, 0.2], [0.8, 0.8]]), np.array([[0.8, 0.2], [0.2, 0.8]])],
        [np.array([[0.15, 0.5], [0.85, 0.5]]), np.array([[0.6, 0.25], [0.85, 0.5], [0.6, 0.75]])],
        [square, *(np.array(ends) for x in (0.4, 0.6) for ends in ([[x, 0.2], [x, 0.8]], [[0.2, x], [0.8, x]]))],
    )
    return _draw(shapes[int(random.integers(len(shapes)))], random)


def _letter(random: Random) -> bytes:
    """A printed letter, turned a little."""
    side = int(random.integers(40, 300))
    page = Image.new("L", (side, side), 255)
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(side * random.uniform(0.5, 0.8))
    stroke = int(side * random.uniform(0, 0.02))
    pen.text((side / 2, side / 2), random.choice(LETTERS), 30, font, anchor="mm", stroke_width=stroke)
    return encode(page.rotate(random.uniform(-10, 10), Image.Resampling.BICUBIC, fillcolor=255))


@cache
def _photographs() -> list[Image.Image]:
    return [Image.fromarray(image) for image in load_sample_images().images]


def _photograph(random: Random) -> bytes:
    """A part of a temple or of a flower."""
    photograph = _photographs()[random.integers(2)]
    side = int(random.integers(60, 400))
    left, top = (int(random.integers(length - side)) for length in photograph.size)
    return encode(photograph.crop((left, top, left + side, top + side)), "JPEG", quality=85)


KINDS: dict[str, Callable[[Random], bytes]] = {
    "scribble": _scribble,
    "smiley": _smiley,
    "shape": _shape,
    "letter": _letter,
    "photograph": _photograph,
}


def _arc(centre: Points, radius: float, start: float, end: float) -> Points:
    """Part of a circle, in degrees from the right, clockwise."""
    angles = np.radians(np.linspace(start, end, 80))
    return centre + radius * np.column_stack([np.cos(angles), np.sin(angles)])


def curve(points: Points) -> Points:
    """A smooth stroke near some points: three times, corners are cut off (Chaikin)."""
    for _ in range(3):
        before, after = points[:-1], points[1:]
        cut = np.stack([0.75 * before + 0.25 * after, 0.25 * before + 0.75 * after], axis=1).reshape(-1, 2)
        points = np.concatenate([points[:1], cut, points[-1:]])
    return points


def _draw(strokes: Sequence[Points], random: Random) -> bytes:
    """Dark ink on light paper, four times as large and then shrunk, so that edges are soft."""
    side = int(np.exp(random.uniform(np.log(60), np.log(600))))
    width = max(4, round(4 * side * random.uniform(0.02, 0.07)))
    page = Image.new("L", (4 * side, 4 * side), int(random.integers(220, 256)))
    pen, ink = ImageDraw.Draw(page), int(random.integers(80))
    turn = np.radians(random.uniform(-6, 6))
    turned = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    for stroke in strokes:
        points = [tuple(point) for point in 4 * side * (0.5 + (stroke - 0.5) @ turned)]
        pen.line(points, ink, width, joint="curve")
        for x, y in (points[0], points[-1]):
            pen.ellipse([x - width / 2, y - width / 2, x + width / 2, y + width / 2], ink)
    return encode(page.reduce(4))
