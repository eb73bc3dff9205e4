"""The paper on a photograph or a scan, without what is around it: a table, a scanner's black edge, a printed box.

What surrounds the paper is one piece of another colour, reaches the border of the page, and leaves a region that is
convex and has few straight sides. Ink that reaches the border leaves no such region.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from kd_cli.digits import shapes
from kd_cli.digits.boxes import Box
from kd_cli.digits.decode import Pixels
from kd_cli.digits.ink import FAINTEST, NOISE_MARGIN, ink_threshold
from kd_cli.digits.paper import find_paper, measure_noise, smooth, without_blocks
from kd_cli.digits.tight import pad_tight, tell_two_colours

Mask = NDArray[np.bool_]

ROUNDS = 6
"""How often something may surround something: a box on a sheet on a table, and black edges of a scanner."""

CORNERS = 6
"""Of a sheet, of which the image's border may cut off two."""

STRAIGHT = 0.94
"""Of a sheet's area, the share that a polygon of six corners has in it: of an ellipse, it is 0.83."""

INTRUSION = 0.15
"""Of what surrounds the paper, the share that may reach into it: a digit may touch a strip."""

SMALLEST = 0.05
"""Of the page, the share that a sheet has at least."""

SLENDER = 0.3
"""Radius of the largest circle in a region over the root of its area: of a square it is 0.5, of a thick stroke less."""

THIN = 0.25
"""Of the depth of what is in a box, the thickness of its line at most."""

THICK = 0.4
"""Of the depth of a sheet, how far in most is of another colour than what is around it."""

ALONG = 0.7
"""Of the outline of a sheet, the share at which the sheet is on the one side and its surroundings on the other."""

FAINT = 0.15
"""Of how far a sheet differs from the table, how far ink differs from the sheet at least."""


@dataclass(frozen=True)
class Sheet:
    """The paper that has the digits on it.

    Attributes:
        pixels: (height, width, 3), RGB from 0 to 1.
        box: where it is on the page, in the page's pixels; paper that was put around a page reaches beyond.
        page: height and width of the page.
    """

    pixels: Pixels
    box: Box
    page: tuple[int, int]

    def on_page(self, box: Box) -> Box:
        """Where on the page a part of the sheet is."""
        height, width = self.pixels.shape[:2]
        box = box.scaled(self.box.width / width, self.box.height / height).moved(self.box.left, self.box.top)
        (left, right), (top, bottom) = (np.clip(box[side::2], 0, self.page[1 - side]).tolist() for side in (0, 1))
        return Box(left, top, right, bottom)


def find_sheet(page: Pixels) -> Sheet:
    """Cut out the innermost sheet or box of a page, (height, width, 3), or put paper around ink that fills the page."""
    height, width = page.shape[:2]
    pixels = without_blocks(page)
    scale = width / pixels.shape[1], height / pixels.shape[0]
    padded = pad_tight(pixels)
    if padded is not pixels:
        down, right = ((after - before) / 2 for after, before in zip(padded.shape[:2], pixels.shape[:2], strict=True))
        box = Box(-right, -down, pixels.shape[1] + right, pixels.shape[0] + down)
        return Sheet(padded, box.scaled(*scale), (height, width))
    box = Box(0, 0, pixels.shape[1], pixels.shape[0])
    for _ in range(ROUNDS):
        entered = _enter(pixels)
        if entered is None:
            break
        pixels, inner = entered
        box = inner.moved(box.left, box.top)
    return Sheet(pixels, box.scaled(*scale), (height, width))


def _enter(page: Pixels) -> tuple[Pixels, Box] | None:
    """The inside of what is surrounded on a page, and where it is; None if nothing is."""
    for difference, other in _segment(page):
        for around, colour in _pieces_at_border(other):
            region = _inside(difference, around, colour)
            entered = None if region is None else _cut_out(page, region, float(difference.max()))
            if entered is not None:
                return entered
    return None


def _segment(page: Pixels) -> Iterator[tuple[Pixels, Mask]]:
    """Ways to tell two colours of a page: how far each pixel differs from the one, and which are not of it."""
    light = tell_two_colours(ndimage.gaussian_filter(page, (1, 1, 0)))
    yield smooth(np.linalg.norm(page - np.median(page[light], axis=0), axis=2)), light
    noise = measure_noise(page.mean(axis=2))
    for at_border in (False, True):
        difference = smooth(np.linalg.norm(page - find_paper(page, at_border), axis=2))
        yield difference, difference > ink_threshold(float(difference.max()), noise)


def _pieces_at_border(other: Mask) -> list[tuple[Mask, Mask]]:
    """What may be surroundings, each with all that is of its colour."""
    found: list[tuple[int, Mask, Mask]] = []
    for colour in (other, ~ndimage.binary_dilation(other, np.ones((3, 3)))):
        labels, count = ndimage.label(colour)
        areas = np.bincount(labels.ravel(), minlength=count + 1)
        border = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
        largest = sorted(border[border > 0], key=lambda label: -int(areas[label]))[:4]
        found += [(int(areas[label]), labels == label, colour) for label in largest]
    # Of two surfaces of which each may surround the other, the larger has the digit.
    return [(around, colour) for _, around, colour in sorted(found, key=lambda piece: piece[0])]


def _inside(difference: Pixels, around: Mask, colour: Mask) -> Mask | None:
    """What a piece of one colour surrounds, if that is a sheet or a box, without its edge."""
    labels, count = ndimage.label(~around)
    if count == 0:
        return None
    areas = np.sort(np.bincount(labels.ravel())[1:])
    within = labels == np.bincount(labels.ravel())[1:].argmax() + 1
    area = float(areas[-1])
    if area < max(400, SMALLEST * within.size):
        return None
    hull = shapes.convex_hull(within)
    hull_area = shapes.area(hull)
    if hull_area - area > INTRUSION * min(float(around.sum()), area):
        return None
    if shapes.area(shapes.simplify(hull, CORNERS)) < STRAIGHT * hull_area:
        return None
    filled = shapes.fill(hull, within.shape)
    depth = ndimage.distance_transform_edt(~around)
    rows, columns = (np.minimum(np.arange(1, n + 1), np.arange(n, 0, -1)) for n in within.shape)
    deepest = float(np.minimum(depth, np.minimum(rows[:, None], columns))[within].max())
    if filled.all() or deepest < SLENDER * np.sqrt(area):
        return None
    line = _line_thickness(depth[within], ~colour[within])
    inwards = ndimage.distance_transform_edt(filled)
    if line <= THIN * deepest:
        alone = len(areas) == 1 or areas[-2] < area / 2  # of several boxes, each has a digit
        if alone and _is_enclosed(within) and _has_loose_pieces(within & ~colour, depth, line):
            return np.asarray(inwards > line + 1.5 + 0.01 * deepest)
    elif line >= THICK * deepest and _is_sharp(difference, around, within, inwards):
        return np.asarray(inwards > 2.5 + 0.03 * deepest)
    return None


def _line_thickness(depths: NDArray[np.float64], other: Mask) -> int:
    """How deep from the outline of a region most of it is of another colour than what is around it, in pixels."""
    rings = np.ceil(depths).astype(int)
    shares = np.bincount(rings, other) / np.maximum(1, np.bincount(rings))
    below = np.nonzero(shares[2:] < 0.5)[0]  # the outermost pixels may be either
    return int(below[0]) + 2 if len(below) else len(shares)


def _is_enclosed(within: Mask) -> bool:
    return not (within[0].any() or within[-1].any() or within[:, 0].any() or within[:, -1].any())


def _has_loose_pieces(ink: Mask, depth: Pixels, line: int) -> bool:
    """Whether there is ink in a box that does not touch its line: an angular 8 has none."""
    labels, count = ndimage.label(ink, np.ones((3, 3)))
    nearest = np.asarray(ndimage.minimum(depth, labels, np.arange(1, count + 1)))
    return bool((np.bincount(labels.ravel(), minlength=count + 1)[1:][nearest > line + 1] >= 9).any())


def _is_sharp(difference: Pixels, around: Mask, within: Mask, inwards: Pixels) -> bool:
    """Whether the colour changes all along the outline, and not little by little as in a shadow."""
    near = max(2.0, 0.01 * max(around.shape))
    outwards = ndimage.distance_transform_edt(inwards == 0)
    sides = []
    for distance, surface in ((inwards, within), (outwards, around)):
        band = (distance > near) & (distance <= 2 * near)
        if not band.any():  # surroundings as thin as a line
            return True
        if surface[band].mean() < ALONG:
            return False
        sides.append(np.median(difference[band & surface]))
    return bool(abs(sides[0] - sides[1]) >= 0.6 * abs(np.median(difference[around]) - np.median(difference[within])))


def _cut_out(page: Pixels, region: Mask, step: float) -> tuple[Pixels, Box] | None:
    """A region of a page, with paper around it to make it a rectangle, and where it is; None if it has no ink on it."""
    if region.sum() < 100:
        return None
    rows, columns = (np.nonzero(region.any(axis=axis))[0] for axis in (1, 0))
    window = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    page, region = page[window].copy(), region[window]
    if not region.all():
        page[~region] = np.median(page[region], axis=0)
        page[~region] = find_paper(page)[~region]
    difference = smooth(np.linalg.norm(page - find_paper(page), axis=2))
    if difference.max() < max(FAINTEST, FAINT * step, NOISE_MARGIN * measure_noise(page.mean(axis=2))):
        return None
    return page, Box(float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))
