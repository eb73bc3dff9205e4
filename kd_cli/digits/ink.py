"""Where on a page the ink of each digit is: ruled lines and specks are left out, the parts of a broken digit kept."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from kd_cli.config import KdError
from kd_cli.digits.boxes import Box, in_reading_order
from kd_cli.digits.decode import Pixels
from kd_cli.digits.groups import group
from kd_cli.digits.paper import block_means, measure_contrast, resize, smooth

Mask = NDArray[np.bool_]

FAINTEST = 0.06
"""Contrast, of the full range, below which there is no ink."""

INK_SHARE = 0.33
"""Of the darkest ink's contrast, from which a pixel may be ink."""

NOISE_MARGIN = 4.5
"""Standard deviations of the paper's noise which ink exceeds: among 400,000 pixels of paper, about one does."""

BLANK_MARGIN = 4
"""Standard deviations of the paper's noise which the mean of the ink exceeds."""

LEAST_PIXELS = 12
"""On the shorter side of a page that shows several digits; the gaps in a digit drawn in fewer tell nothing."""

SOFT_EDGE = 0.06
"""Of the page's shorter side; edges as soft as that are those of shadows."""

EIGHT_NEIGHBOURS = np.ones((3, 3), bool)


@dataclass(frozen=True)
class Ink:
    """The ink of a digit.

    Attributes:
        values: (rows, columns): 0 is paper, 1 is ink, with soft edges, and a little paper around the ink.
        box: where on the page it is.
        mass: how much ink it is.
    """

    values: Pixels
    box: Box
    mass: float


def find_ink(page: Pixels) -> Pixels:
    """Cut the ink of one character out of a page: of the heaviest piece, and of what is near it.

    Args:
        page: (height, width, 3), RGB from 0 to 1.

    Returns:
        (rows, columns): 0 is paper, 1 is ink, with soft edges, and a little paper around the ink.

    Raises:
        KdError: there is no ink on the page.
    """
    contrast, pieces = _find_pieces(page)
    return _cut_out(contrast, pieces.mask(pieces.around_heaviest()))


def find_digits(page: Pixels) -> list[Ink]:
    """Cut the ink of each digit out of a page, in the order in which they are read. One digit is as `find_ink` has it.

    Args:
        page: (height, width, 3), RGB from 0 to 1.

    Raises:
        KdError: there is no ink on the page.
    """
    contrast, pieces = _find_pieces(page)
    scale = page.shape[1] / contrast.shape[1], page.shape[0] / contrast.shape[0]
    several = min(page.shape[:2]) >= LEAST_PIXELS
    digits = []
    for parts in pieces.digits() if several else [pieces.around_heaviest()]:
        mask = pieces.mask(parts)
        mass = float(pieces.mass[parts].sum())
        digits.append(Ink(_cut_out(contrast, mask), _box_around(mask).scaled(*scale), mass))
    return [digits[place] for place in in_reading_order([digit.box for digit in digits])]


def _find_pieces(page: Pixels) -> "tuple[Pixels, _Pieces]":
    """The contrast of a page without ruled lines, and the pieces of ink in it."""
    contrast, noise = measure_contrast(page)
    contrast = _without_ruled_lines(contrast, ink_threshold(float(contrast.max()), noise) / 2)
    smoothed = smooth(contrast)
    darkness = _Pieces(smoothed, ink_threshold(float(smoothed.max()), noise)).darkness()
    if darkness < max(FAINTEST, BLANK_MARGIN * noise):
        raise KdError("it is blank")
    # Once more, with a threshold that fits the digits rather than the darkest speck.
    return contrast, _Pieces(smoothed, ink_threshold(darkness, noise))


def _without_ruled_lines(contrast: Pixels, threshold: float) -> Pixels:
    """Remove thin lines that run from one edge of the page to the opposite one."""
    for _ in ("horizontal", "vertical"):
        lines = _horizontal_lines(smooth(contrast) > threshold)
        contrast = (_erase(contrast, lines) if lines.any() else contrast).T
    return contrast


def _horizontal_lines(mask: Mask) -> Mask:
    height, width = mask.shape
    if not (mask[:, :3].any() and mask[:, -3:].any()):
        return np.zeros_like(mask)
    # In an eighth of the width even a slanted line is horizontal enough, and its stretches are still connected.
    stretches = ndimage.grey_opening(mask.view(np.uint8), (1, max(3, width // 8)))
    labels, count = ndimage.label(stretches, EIGHT_NEIGHBOURS)
    across = np.intersect1d(labels[:, :3], labels[:, -3:])
    areas = np.bincount(labels.ravel(), minlength=count + 1)
    lines = [label for label in across if label and areas[label] / width < max(3, 0.06 * height)]
    return _among(labels, lines)


def _erase(contrast: Pixels, lines: Mask) -> Pixels:
    """Replace lines by what is on both sides of them, so that a stroke across a line is not cut."""
    lines = ndimage.binary_dilation(lines, EIGHT_NEIGHBOURS)
    runs = lines.sum(axis=0)
    rows = np.diff(lines.astype(np.int8), axis=0, prepend=0) == 1
    thickness = int(np.ceil(runs.sum() / max(1, rows.sum()))) + 1
    padded = np.pad(contrast, ((thickness, thickness), (0, 0)), mode="edge")
    both_sides = np.minimum(padded[: -2 * thickness], padded[2 * thickness :])
    # A stroke over a line is kept where it is darker than the line, and where it continues on both sides.
    line_only = lines & (contrast < 1.5 * np.median(contrast[lines]))
    return np.where(line_only, np.minimum(contrast, both_sides), contrast)


class _Pieces:
    """The connected pieces of what stands out from the paper.

    Attributes:
        mass: how much ink each piece is, by its label; pieces with soft edges, as shadows have, count little.
    """

    def __init__(self, contrast: Pixels, threshold: float) -> None:
        self.contrast = contrast
        self.labels, _ = ndimage.label(contrast > threshold, EIGHT_NEIGHBOURS)
        sharp = contrast - _blur(contrast, SOFT_EDGE * min(contrast.shape))
        self.mass = np.asarray(np.bincount(self.labels.ravel(), sharp.clip(0).ravel()), np.float64)
        self.mass[0] = 0

    def darkness(self) -> float:
        """The mean contrast of the heaviest piece, in which dark pixels count for more than soft edges; 0 for none."""
        if not self.mass.any():
            return 0.0
        values = self.contrast[self.labels == self.mass.argmax()].astype(np.float64)
        return float((values * values).sum() / values.sum())

    def digits(self) -> list[list[int]]:
        """The labels of each digit's pieces."""
        digits = group(self.labels, self.mass)
        return digits if len(digits) > 1 else [self.around_heaviest()]

    def mask(self, parts: list[int]) -> Mask:
        """Where these pieces are."""
        return _among(self.labels, parts)

    def around_heaviest(self) -> list[int]:
        """The heaviest piece, and the others that are near and heavy enough to be parts of a broken digit."""
        boxes = ndimage.find_objects(self.labels)
        heaviest = self.mass.argmax()
        home = boxes[heaviest - 1]
        reach = 0.3 * max(side.stop - side.start for side in home)
        return [
            label
            for label, box in enumerate(boxes, start=1)
            if self.mass[label] >= 0.04 * self.mass[heaviest]
            and all(b.start < h.stop + reach and b.stop > h.start - reach for b, h in zip(box, home, strict=True))
        ]


def _cut_out(contrast: Pixels, digit: Mask) -> Pixels:
    """The digit's own grey levels, as a share of the full ink around them, within a little more than its outline."""
    left, top, right, bottom = map(int, _box_around(digit))
    side = max(bottom - top, right - left)
    margin = max(2, round(0.15 * side))
    window = slice(max(0, top - margin), bottom + margin), slice(max(0, left - margin), right + margin)
    contrast, digit = contrast[window], digit[window]
    weight = np.where(digit, contrast.clip(0), 0)
    reach = max(1.0, 0.15 * side)
    full = _blur(weight * weight, reach) / np.maximum(_blur(weight, reach), 1e-6)
    near = ndimage.binary_dilation(digit, EIGHT_NEIGHBOURS, iterations=max(1, round(0.04 * side)))
    ink: Pixels = np.where(near, (contrast / np.maximum(full, 1e-6)).clip(0, 1), 0).astype(np.float32)
    return ink


def _box_around(mask: Mask) -> Box:
    rows, columns = (np.nonzero(mask.any(axis=axis))[0] for axis in (1, 0))
    return Box(columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)


def _among(labels: NDArray[np.int32], chosen: list[int]) -> Mask:
    table = np.zeros(int(labels.max()) + 1, bool)
    table[chosen] = True
    mask: Mask = table[labels]
    return mask


def _blur(contrast: Pixels, sigma: float) -> Pixels:
    """A wide Gaussian blur, computed on a small copy."""
    step = max(1, int(sigma / 2))
    small = ndimage.gaussian_filter(block_means(contrast[..., None], step)[..., 0], sigma / step)
    return resize(small, contrast.shape, Image.Resampling.BILINEAR)


def ink_threshold(darkest: float, noise: float) -> float:
    """The contrast from which a pixel may be ink: clear of the noise, but never more than half of the darkest."""
    return min(max(INK_SHARE * darkest, NOISE_MARGIN * noise, FAINTEST / 2), darkest / 2)
