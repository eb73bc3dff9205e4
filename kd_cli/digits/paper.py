"""How far each pixel of a page differs from the paper.

Nothing is assumed of the page but that most of it, and most of its border, is paper. Ink is what differs from the paper
in one colour direction, whichever that is: dark on light, light on dark, and red on a green as bright are all one.

Sums are taken in 64 bits, so that every machine, and `html/page/paper.js`, comes to the same 32 of each pixel.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from kd_cli.digits.decode import Pixels

SMALL_PAGE = 96
"""Pixels; a page with a shorter side than this is enlarged smoothly, so that strokes are some pixels wide."""

FIT_SIDE = 48
"""Pixels on the longer side of the small copy of a page on which the light is studied."""

WIDEST_STROKE = 0.6
"""Of the page's shorter side; what is wider and differs from the paper is a shadow."""


def measure_contrast(page: Pixels) -> tuple[Pixels, float]:
    """How far each pixel differs from the paper in the ink's direction, without shadows.

    Args:
        page: (height, width, 3), RGB from 0 to 1.

    Returns:
        The contrast, (rows, columns), about 0 where there is paper, and the standard deviation of the paper's noise
        after `smooth`. A small page comes back larger.
    """
    contrast = _along_ink_colour(page - find_paper(page))
    return _without_shadows(_enlarge(contrast)), measure_noise(contrast)


def without_blocks(page: Pixels) -> Pixels:
    """Undo an enlargement that repeated pixels, if there was one: blocks have edges that no ink has."""
    size = page.shape[:2]
    edges = [np.nonzero(np.any(np.diff(page, axis=axis) != 0, axis=(1 - axis, 2)))[0] + 1 for axis in (0, 1)]
    block = min(int(np.diff(each, prepend=0, append=side).min()) for each, side in zip(edges, size, strict=True))
    if block < 3:
        return page
    # From 8 to 300 pixels, blocks are 37 or 38 wide: their count is what is whole, and edges lie within a pixel of it.
    counts = [_count_blocks(each, side, block) for each, side in zip(edges, size, strict=True)]
    if 0 in counts:
        return page
    rows, columns = (((np.arange(n) + 0.5) * side / n).astype(int) for n, side in zip(counts, size, strict=True))
    return page[np.ix_(rows, columns)]


def _count_blocks(edges: NDArray[np.int64], side: int, block: int) -> int:
    """Into how many blocks, the narrowest this wide, edges at these places cut a side; 0 if they are no such blocks."""
    for count in range(side // block, -(-side // (block + 1)) - 1, -1):
        if count and np.abs(edges - np.round(edges * count / side) * side / count).max(initial=0) <= 1:
            return count
    return 0


def find_paper(page: Pixels) -> Pixels:
    """The colour of the paper at each pixel: a smooth surface through what agrees with the page's border.

    A quadratic in the coordinates, per channel, by iteratively reweighted least squares with Cauchy's weights, so that
    ink counts for little.
    """
    step = -(-max(page.shape[:2]) // FIT_SIDE)
    small = block_means(page, step)
    border = np.concatenate([small[0], small[-1], small[:, 0], small[:, -1]])
    colours = small.reshape(-1, 3).astype(np.float64)
    y, x = _coordinates(*small.shape[:2])
    basis = np.stack([each.ravel() for each in np.broadcast_arrays(1.0, x, y, x * x, x * y, y * y)], axis=1)
    surface = np.median(border, axis=0)
    spread = 0.1
    for _ in range(8):
        distance = np.linalg.norm(colours - surface, axis=1)
        spread = float(np.clip(1.5 * np.median(distance), 0.01, spread))
        weighted = basis / (1 + (distance / spread) ** 2)[:, None]
        coefficients = np.linalg.lstsq(weighted.T @ basis, weighted.T @ colours, rcond=None)[0]
        surface = basis @ coefficients
    y, x = (each[..., None] for each in _coordinates(*page.shape[:2]))
    one, by_x, by_y, by_xx, by_xy, by_yy = coefficients
    paper: Pixels = (one + by_y * y + by_yy * y * y + (by_x + by_xy * y + by_xx * x) * x).astype(np.float32)
    return paper


def _coordinates(height: int, width: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where the pixels of a page are, whatever its resolution: from -1 to 1, (height, 1) and (1, width)."""
    y, x = ((2 * np.arange(side) + 1) / side - 1 for side in (height, width))
    return y[:, None], x[None]


def _along_ink_colour(difference: Pixels) -> Pixels:
    """Differences from the paper, (height, width, 3) -> their lengths in the ink's direction, (height, width)."""
    smoothed = ndimage.gaussian_filter(difference, (1, 1, 0))
    distance = np.linalg.norm(smoothed, axis=2)
    strongest = smoothed[distance >= 0.5 * distance.max()].astype(np.float64)
    _, _, directions = np.linalg.svd(strongest.T @ strongest)
    contrast: Pixels = (difference @ directions[0]).astype(np.float32)
    return contrast if (strongest @ directions[0]).sum() > 0 else -contrast


def _enlarge(contrast: Pixels) -> Pixels:
    factor = -(-SMALL_PAGE // min(contrast.shape))
    if factor == 1 or max(contrast.shape) >= 4 * SMALL_PAGE:
        return contrast
    height, width = contrast.shape
    return resize(contrast, (factor * height, factor * width), Image.Resampling.BICUBIC)


def _without_shadows(contrast: Pixels) -> Pixels:
    """Remove what is too wide for a stroke, by a morphological opening of a small copy of the page."""
    step = -(-max(contrast.shape) // FIT_SIDE)
    small = block_means(contrast[..., None], step)[..., 0]
    window = max(3, round(WIDEST_STROKE * min(small.shape)))
    wide = ndimage.grey_opening(small, (window, window), mode="nearest")
    wide = ndimage.gaussian_filter(wide, 1, mode="nearest")
    flat: Pixels = contrast - resize(wide, contrast.shape, Image.Resampling.BILINEAR)
    flat -= np.median(flat)
    return flat


def measure_noise(contrast: Pixels) -> float:
    """Standard deviation of the paper's noise after `smooth`, from how far most pixels are from their neighbours."""
    roughness = np.abs(contrast - ndimage.uniform_filter(contrast, 3))
    # Of a normal variable's absolute value, 0.385 is the 30 % quantile; 0.943 of it is left without the mean of nine.
    deviation = float(np.quantile(roughness, 0.3)) / (0.385 * 0.943)
    return 0.28 * deviation  # a Gaussian of 1 pixel leaves this much of white noise


def tell_two_colours(page: Pixels) -> NDArray[np.bool_]:
    """Which pixels are of the one of two colours, by Otsu's threshold along the direction in which colours differ most.

    Otsu 1979, "A Threshold Selection Method from Gray-Level Histograms": the variance between the two is the largest.
    """
    colours = page.reshape(-1, 3) - page.mean(axis=(0, 1))
    values = colours @ np.linalg.eigh(colours.T @ colours)[1][:, -1]
    counts, edges = np.histogram(values, 64)
    below = np.cumsum(counts)[:-1]
    sums = np.cumsum(counts * (edges[1:] + edges[:-1]) / 2)
    above = len(values) - below
    between = below * above * (sums[:-1] / np.maximum(below, 1) - (sums[-1] - sums[:-1]) / np.maximum(above, 1)) ** 2
    colour: NDArray[np.bool_] = (values > edges[1 + between.argmax()]).reshape(page.shape[:2])
    return colour


def smooth(contrast: Pixels) -> Pixels:
    """Blur enough to tell strokes from noise and from the blocks of JPEG, and too little to close a loop."""
    smoothed: Pixels = ndimage.gaussian_filter(contrast, 1)
    return smoothed


def block_means(page: Pixels, step: int) -> Pixels:
    """The mean of each square of ``step`` x ``step`` pixels, or of its part on the page: (rows, columns, channels)."""
    rows, columns = (np.arange(0, side, step) for side in page.shape[:2])
    sums = np.add.reduceat(np.add.reduceat(page, rows, axis=0, dtype=np.float64), columns, axis=1)
    counts = np.diff(rows, append=page.shape[0])[:, None] * np.diff(columns, append=page.shape[1])
    means: Pixels = (sums / counts[..., None]).astype(np.float32)
    return means


def resize(pixels: Pixels, shape: tuple[int, ...], resampling: Image.Resampling) -> Pixels:
    """Values (height, width), resampled to another ``shape``."""
    return np.asarray(Image.fromarray(pixels).resize((shape[1], shape[0]), resampling))
