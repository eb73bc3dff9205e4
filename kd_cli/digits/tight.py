"""Images that are cut out so closely that ink lies on all borders: what is ink, and paper around it."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from kd_cli.digits.decode import Pixels
from kd_cli.digits.paper import block_means, tell_two_colours

Mask = NDArray[np.bool_]

SMALL_SIDE = 96
"""Pixels on the longer side of the copy of an image on which its two colours are told apart."""

RUN = 0.05
"""Of a border, the shortest run that is ink: printed lines are thinner."""

NEAR = 0.04
"""Of the image's height or width, how near to a border ink lies on it, as the ink's edge is soft."""

TWO_COLOURS = 0.8
"""Of the variance of an image's colours, what is between the two."""

THICKEST = 0.25
"""Of the image's longer side, the radius of the thickest stroke."""

MOST = 0.6
"""Of an image, the share that is ink at most."""

TORN = 0.9
"""Of the paper, the largest piece at most, where ink from border to border tears it."""

MARGIN = 0.25
"""Of the image's longer side, the paper that is put around it."""


def pad_tight(page: Pixels) -> tuple[Pixels, int]:
    """Put paper around a page, (height, width, 3), if its ink lies on all four borders.

    Returns:
        The page, and how many pixels of paper it has got on each side.
    """
    small = block_means(page, -(-max(page.shape[:2]) // SMALL_SIDE))
    light = tell_two_colours(small)
    if not _has_two_colours(small, light):
        return page, 0
    # Ink is in one piece, and paper makes up most of the border: here they may be wrong, but seldom both.
    ink = max(light, ~light, key=lambda colour: _share_in_one_piece(colour) - _around(colour).mean())
    if not (
        _share_in_one_piece(~ink) < TORN and _lies_on_all_borders(ink) and ink.any() and not ink.all() and _is_thin(ink)
    ):
        return page, 0
    margin = round(MARGIN * max(page.shape[:2]))
    padded = np.pad(page, ((margin, margin), (margin, margin), (0, 0)))
    there = np.pad(np.ones(page.shape[:2], bool), margin)[..., None]
    return np.where(there, padded, np.median(small[~ink], axis=0)), margin


def _has_two_colours(page: Pixels, light: Mask) -> bool:
    """Whether two colours make up most of how pixels differ: not so in shadows, or where printed lines are."""
    total = float(page.reshape(-1, 3).var(axis=0).sum())
    within = sum(float(page[each].var(axis=0).sum()) * float(each.mean()) for each in (light, ~light) if each.any())
    return within <= (1 - TWO_COLOURS) * total


def _share_in_one_piece(colour: Mask) -> float:
    labels, _ = ndimage.label(colour, np.ones((3, 3)))
    return float(np.bincount(labels.ravel(), minlength=2)[1:].max() / max(1, colour.sum()))


def _around(mask: Mask) -> Mask:
    return np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])


def _lies_on_all_borders(ink: Mask) -> bool:
    return all(_lies_on_first_rows(np.rot90(ink, turns)) for turns in range(4))


def _lies_on_first_rows(ink: Mask) -> bool:
    near = np.logical_or.reduce(ink[: max(1, round(NEAR * len(ink)))])
    return bool(ndimage.binary_opening(near, np.ones(max(1, round(RUN * ink.shape[1])))).any())


def _is_thin(ink: Mask) -> bool:
    thickest = ndimage.distance_transform_edt(np.pad(ink, 1)).max()
    return bool(ink.mean() <= MOST and thickest <= THICKEST * max(ink.shape))
