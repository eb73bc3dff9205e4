"""Where on a page the ink of the digit is.

Nothing is assumed of the page but that most of it, and most of its border, is paper. Ink is what differs from the paper
in one colour direction, whichever that is: dark on light, light on dark, and red on a green as bright are all one.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from kd_cli.settings import KdError

Pixels = NDArray[np.float32]
Mask = NDArray[np.bool_]

SMALL_PAGE = 160
"""Pixels; a page with a shorter side is enlarged smoothly first, so that strokes are some pixels wide."""

FIT_SIDE = 64
"""Pixels on the longer side of the small copy of the page to which the light is fitted."""

FAINTEST = 0.06
"""Contrast, of the full range, below which there is no ink."""

NOISE_MARGIN = 4.5
"""Standard deviations of the paper's noise which ink exceeds: among 400,000 pixels of paper, about one does."""


def find_ink(page: Pixels) -> Pixels:
    """Cut the digit's ink out of a page.

    Args:
        page: (height, width, 3), RGB from 0 to 1.

    Returns:
        (rows, columns): 0 is paper, 1 is ink, with soft edges, and a little paper around the ink.

    Raises:
        KdError: there is no ink on the page.
    """
    page = _enlarge(page)
    contrast, noise = _along_ink_colour(page - _paper(page))
    digit = _digit(contrast, noise)
    return _cut_out(contrast, digit)


def _enlarge(page: Pixels) -> Pixels:
    factor = -(-SMALL_PAGE // min(page.shape[:2]))
    if factor == 1 or max(page.shape[:2]) >= 4 * SMALL_PAGE:
        return page
    return ndimage.zoom(page, (factor, factor, 1), order=3, mode="nearest", grid_mode=True)


def _paper(page: Pixels) -> Pixels:
    """The colour that the paper has at each pixel: a smooth surface through what agrees with the page's border.

    A quadratic in the coordinates, per channel, by iteratively reweighted least squares with Cauchy's weights, so that
    ink counts for little; then what is left of shadows, averaged over the paper alone.
    """
    height, width = page.shape[:2]
    step = -(-max(height, width) // FIT_SIDE)
    small = _block_means(page, step)
    basis = _quadratic(*small.shape[:2]).reshape(-1, 6)
    colours = small.reshape(-1, 3)
    border = np.concatenate([small[0], small[-1], small[:, 0], small[:, -1]])
    surface = np.median(border, axis=0)
    spread = 0.1
    for _ in range(8):
        distance = np.linalg.norm(colours - surface, axis=1)
        spread = float(np.clip(1.5 * np.median(distance), 0.01, spread))
        weighted = basis / (1 + (distance / spread) ** 2)[:, None]
        coefficients = np.linalg.lstsq(weighted.T @ basis, weighted.T @ colours, rcond=None)[0]
        surface = basis @ coefficients
    fitted = surface.reshape(small.shape)
    return ndimage.zoom(fitted, (height / small.shape[0], width / small.shape[1], 1), order=1, mode="nearest", grid_mode=True)


def _quadratic(height: int, width: int) -> Pixels:
    y, x = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=-1).astype(np.float32)


def _block_means(page: Pixels, step: int) -> Pixels:
    rows, columns = (np.arange(0, side, step) for side in page.shape[:2])
    sums = np.add.reduceat(np.add.reduceat(page, rows, axis=0), columns, axis=1)
    counts = np.diff(rows, append=page.shape[0])[:, None] * np.diff(columns, append=page.shape[1])
    return sums / counts[..., None]


def _along_ink_colour(difference: Pixels) -> tuple[Pixels, float]:
    """Differences from the paper, (height, width, 3) -> how far each goes the ink's way, and the noise in that."""
    smooth = ndimage.gaussian_filter(difference, (1, 1, 0))
    distance = np.linalg.norm(smooth, axis=2)
    strongest = smooth[distance > 0.5 * distance.max()]
    _, _, directions = np.linalg.svd(strongest.T @ strongest)
    axis = directions[0] * np.sign(strongest @ directions[0]).sum()
    axis /= np.linalg.norm(axis) or 1
    contrast = difference @ axis
    noise = float(np.quantile(np.abs(contrast - np.median(contrast)), 0.3)) / 0.385  # of a normal distribution
    return contrast, noise


def _digit(contrast: Pixels, noise: float) -> Mask:
    """The pixels of the digit: of all that stands out, the heaviest piece, and what belongs to it."""
    smooth = ndimage.gaussian_filter(contrast, 1)
    noise = 0.3 * noise
    level = max(NOISE_MARGIN * noise, 0.3 * float(smooth.max()), FAINTEST / 2)
    pieces, count = ndimage.label(smooth > level, structure=np.ones((3, 3)))
    if count == 0:
        raise KdError("it is blank")
    labels = np.arange(1, count + 1)
    mass = ndimage.sum_labels(smooth, pieces, labels)
    heaviest = int(mass.argmax())
    box = ndimage.find_objects(pieces)
    core = smooth[pieces == heaviest + 1]
    peak = float((core * core).sum() / core.sum())
    if peak < FAINTEST:
        raise KdError("it is blank")
    # Again, with a level that fits this piece.
    pieces, count = ndimage.label(smooth > max(NOISE_MARGIN * noise, 0.35 * peak), structure=np.ones((3, 3)))
    labels = np.arange(1, count + 1)
    mass = ndimage.sum_labels(smooth, pieces, labels)
    heaviest = int(mass.argmax())
    boxes = ndimage.find_objects(pieces)
    home = boxes[heaviest]
    reach = 0.3 * max(s.stop - s.start for s in home)
    chosen = [
        i + 1
        for i, box in enumerate(boxes)
        if mass[i] >= 0.04 * mass[heaviest]
        and all(b.start < h.stop + reach and b.stop > h.start - reach for b, h in zip(box, home))
    ]
    return np.isin(pieces, chosen)


def _cut_out(contrast: Pixels, digit: Mask) -> Pixels:
    """The digit's own grey levels, as a share of the full ink around them, within a little more than its outline."""
    rows, columns = (np.nonzero(digit.any(axis=axis))[0] for axis in (1, 0))
    height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
    margin = max(2, round(0.15 * max(height, width)))
    window = (
        slice(max(0, rows[0] - margin), rows[-1] + margin + 1),
        slice(max(0, columns[0] - margin), columns[-1] + margin + 1),
    )
    contrast, digit = contrast[window], digit[window]
    blur = max(1.0, 0.15 * max(height, width))
    weight = np.where(digit, contrast.clip(0), 0)
    full = ndimage.gaussian_filter(weight * weight, blur) / np.maximum(ndimage.gaussian_filter(weight, blur), 1e-6)
    near = ndimage.binary_dilation(digit, iterations=max(1, round(0.04 * max(height, width))))
    return np.where(near, (contrast / np.maximum(full, 1e-6)).clip(0, 1), 0).astype(np.float32)
