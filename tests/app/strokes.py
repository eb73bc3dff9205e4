"""Digits as somebody drew them: for each its strokes, as the places that the pen passed on a board of 280x280."""

import pytest

Stroke = list[tuple[int, int]]

SIDE = 280


def _read(stroke: str) -> Stroke:
    return [(int(x), int(y)) for x, y in (place.split(",") for place in stroke.split())]


RECORDED = [
    (0, ["140,40 100,55 75,95 68,145 80,200 115,238 150,240 185,210 205,160 200,105 180,60 145,40"]),
    (1, ["110,80 145,45 143,110 141,180 140,240"]),
    (1, ["165,40 152,105 140,170 126,243"]),
    (2, ["80,90 95,60 130,42 170,50 190,80 185,115 150,160 110,200 75,235 120,232 165,233 210,238"]),
    (3, ["85,60 120,42 165,48 185,75 175,110 135,130 175,140 200,170 190,215 150,240 110,240 78,222"]),
    (4, ["120,45 100,95 75,150 120,152 170,150 215,148", "170,90 168,140 165,190 163,245"]),
    (5, ["95,52 90,90 85,125 120,115 165,120 192,150 190,195 160,230 115,240 78,225", "95,52 140,50 192,47"]),
    (6, ["175,45 130,75 95,125 80,180 95,225 130,242 170,230 185,195 165,165 130,160 98,180 88,205"]),
    (7, ["75,60 120,58 165,56 205,58 180,110 155,165 135,245"]),
    (7, ["80,65 130,60 200,55 170,120 145,180 130,240", "115,150 155,148 192,144"]),
    (8, ["180,70 145,42 105,55 95,90 130,125 175,160 190,205 155,240 110,235 90,200 110,160 155,125 185,95 180,70"]),
    (9, ["185,85 160,50 120,50 92,85 100,125 140,138 175,115 187,85 185,140 175,195 160,245"]),
]

DRAWN = [(digit, [_read(stroke) for stroke in strokes]) for digit, strokes in RECORDED]

MISREAD = pytest.mark.xfail(strict=True, reason="the teacher that ships takes this 1, with its short flag, for a 7")

CASES = [
    pytest.param(digit, drawing, id=str(digit), marks=MISREAD if number == 1 else ())
    for number, (digit, drawing) in enumerate(DRAWN)
]
"""The digits and their strokes, for tests of what both networks predict."""
