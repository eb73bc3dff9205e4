"""What is around the paper on a photograph or a scan: a table, a strip, a scanner's black edge, a printed box.

Surroundings are one piece of another colour that reaches the border of the page and leaves a region that is nearly
convex. Soft, thick strokes may look so too, but a sheet is of one colour for the most part, up to its sharp edge.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from kd_cli.digits import shapes
from kd_cli.digits.decode import Pixels
from kd_cli.digits.ink import EIGHT_NEIGHBOURS, FAINTEST, NOISE_MARGIN, Mask, ink_threshold
from kd_cli.digits.paper import find_paper, measure_noise, smooth, tell_two_colours

LEAST_AREA = 0.05
"""Of the page, the share that a sheet has at least."""

LEAST_PIXELS = 400
"""Of a sheet."""

INTRUSION = 0.15
"""Of the surroundings, the share that may reach into the outline of the sheet: a digit may touch a strip."""

CORNERS = 8
"""Of a sheet: the image's border may cut off some, and those of a box may be rounded."""

STRAIGHT = 0.94
"""Of a sheet's area, the share that a polygon of eight corners has in it: of an ellipse, it is 0.90."""

SLENDER = 0.3
"""Radius of the largest circle in a region over the root of its area: of a square it is 0.5, of a thick stroke less."""

PAPER = 0.5
"""Of a sheet, the share that is of one colour at least."""

SAME_COLOUR = 0.25
"""Of how far a sheet differs from its surroundings, how far its own colours do: the light is seldom even."""

ALONG = 0.95
"""Of the outline of a sheet, the share at which the sheet is on the one side and its surroundings on the other."""

SHARP = 0.6
"""Of how far a sheet differs from its surroundings, the share that is seen right at its edge."""

THIN = 0.25
"""Of the depth of a box, the thickness of its line at most."""

FAINT = 0.15
"""Of how far colours of the page differ, how far ink differs from the sheet at least."""


class Inside(NamedTuple):
    """A sheet or a box, (height, width, 3), and where on the page its left upper corner is."""

    pixels: Pixels
    left: int
    top: int


def find_inside(page: Pixels) -> Inside | None:
    """What is surrounded on a page, (height, width, 3), RGB from 0 to 1; None if nothing is."""
    for difference, other in _tell_colours(page):
        for around, colour in _pieces_at_border(other):
            region = _surrounded(difference, around, colour)
            inside = None if region is None else _cut_out(page, region, float(difference.max()))
            if inside is not None:
                return inside
    return None


def _tell_colours(page: Pixels) -> Iterator[tuple[Pixels, Mask]]:
    """Ways to tell two colours of a page: how far each pixel differs from the one, and which are not of it."""
    light = tell_two_colours(ndimage.gaussian_filter(page, (1, 1, 0)))
    yield smooth(np.linalg.norm(page - np.median(page[light], axis=0), axis=2)), light
    difference = smooth(np.linalg.norm(page - find_paper(page), axis=2))
    yield difference, difference > ink_threshold(float(difference.max()), measure_noise(page.mean(axis=2)))


def _pieces_at_border(other: Mask) -> list[tuple[Mask, Mask]]:
    """What may be surroundings, each with all that is of its colour.

    Of two surfaces of which each may surround the other, the larger has the digit: the smaller comes first.
    """
    found: list[tuple[int, Mask, Mask]] = []
    for colour in (other, ~ndimage.binary_dilation(other, EIGHT_NEIGHBOURS)):
        labels, count = ndimage.label(colour)
        areas = np.bincount(labels.ravel(), minlength=count + 1)
        border = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
        largest = sorted(border[border > 0], key=lambda label: -int(areas[label]))[:4]
        found += [(int(areas[label]), labels == label, colour) for label in largest]
    return [(around, colour) for _, around, colour in sorted(found, key=lambda piece: piece[0])]


def _surrounded(difference: Pixels, around: Mask, colour: Mask) -> Mask | None:
    """What a piece of one colour surrounds, if that is a sheet or a box, without its edge."""
    labels, _ = ndimage.label(~around)
    areas = np.bincount(labels.ravel(), minlength=2)
    areas[0] = 0
    within = labels == areas.argmax()
    area = int(areas.max())
    if area < max(LEAST_PIXELS, LEAST_AREA * within.size):
        return None
    may_be_box = _is_enclosed(within) and np.sort(areas)[-2:][0] < area / 2  # of several boxes, each has a digit
    step = abs(float(np.median(difference[around]) - np.median(difference[within])))
    is_paper = _is_of_one_colour(difference[within], SAME_COLOUR * step)
    if not (may_be_box or is_paper):
        return None
    hull = shapes.convex_hull(within)
    hull_area = shapes.area(hull)
    if hull_area - area > INTRUSION * min(int(around.sum()), area):
        return None
    if shapes.area(shapes.simplify(hull, CORNERS)) < STRAIGHT * hull_area:
        return None
    depth = ndimage.distance_transform_edt(np.pad(within, 1))[1:-1, 1:-1]
    deepest = float(depth.max())
    if deepest < SLENDER * np.sqrt(area):
        return None
    inwards = ndimage.distance_transform_edt(shapes.fill(hull, within.shape))
    if is_paper and _has_sharp_edge(difference, around, within, inwards, step):
        return np.asarray(inwards > 2.5 + 0.03 * deepest)
    line = _line_thickness(depth[within], ~colour[within])
    if may_be_box and line <= THIN * deepest and _has_loose_pieces(within & ~colour, depth, line):
        return np.asarray(inwards > line + 1.5 + 0.01 * deepest)
    return None


def _is_enclosed(within: Mask) -> bool:
    return not (within[0].any() or within[-1].any() or within[:, 0].any() or within[:, -1].any())


def _is_of_one_colour(differences: NDArray[np.floating], tolerance: float) -> bool:
    return bool((np.abs(differences - np.median(differences)) < tolerance).mean() >= PAPER)


def _has_sharp_edge(difference: Pixels, around: Mask, within: Mask, inwards: Pixels, step: float) -> bool:
    """Whether the colour changes all along the outline, and not little by little as in a shadow or a soft stroke."""
    near = max(2.0, 0.01 * max(around.shape))
    outwards = ndimage.distance_transform_edt(inwards == 0)
    sides = []
    for distance, surface in ((inwards, within), (outwards, around)):
        band = (distance > near) & (distance <= 2 * near)
        if not band.any():  # surroundings as thin as a line
            return True
        if surface[band].mean() < ALONG:
            return False
        sides.append(float(np.median(difference[band & surface])))
    return abs(sides[0] - sides[1]) >= SHARP * step


def _line_thickness(depths: NDArray[np.float64], other: Mask) -> int:
    """How deep from the outline of a region most of it is of another colour than what is around it, in pixels."""
    rings = np.ceil(depths).astype(int)
    shares = np.bincount(rings, other) / np.maximum(1, np.bincount(rings))
    below = np.nonzero(shares[2:] < 0.5)[0]  # the outermost pixels may be either
    return int(below[0]) + 2 if len(below) else len(shares)


def _has_loose_pieces(ink: Mask, depth: Pixels, line: int) -> bool:
    """Whether there is ink in a box that does not touch its line: an angular 8 has none."""
    labels, count = ndimage.label(ink, EIGHT_NEIGHBOURS)
    nearest = np.asarray(ndimage.minimum(depth, labels, np.arange(1, count + 1)))
    return bool((np.bincount(labels.ravel(), minlength=count + 1)[1:][nearest > line + 1] >= 9).any())


def _cut_out(page: Pixels, region: Mask, contrast: float) -> Inside | None:
    """A region of a page, with paper around it to make it a rectangle; None if it has no ink on it."""
    if region.sum() < LEAST_PIXELS / 4:
        return None
    rows, columns = ndimage.find_objects(region.view(np.uint8))[0]
    sheet, region = page[rows, columns].copy(), region[rows, columns]
    if not region.all():
        sheet[~region] = np.median(sheet[region], axis=0)
        sheet[~region] = find_paper(sheet)[~region]
    difference = smooth(np.linalg.norm(sheet - find_paper(sheet), axis=2))
    if difference.max() < max(FAINTEST, FAINT * contrast, NOISE_MARGIN * measure_noise(sheet.mean(axis=2))):
        return None
    return Inside(sheet, columns.start, rows.start)
