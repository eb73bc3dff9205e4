"""Where on a page the ink of the digit is.

Nothing is assumed of the page but that most of it, and most of its border, is paper. Ink is what differs from the paper
in one colour direction, whichever that is: dark on light, light on dark, and red on a green as bright are all one.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from kd_cli.settings import KdError

Pixels = NDArray[np.float32]
Mask = NDArray[np.bool_]

SMALL_PAGE = 96
"""Pixels; a page with a shorter side than this is enlarged smoothly, so that strokes are some pixels wide."""

FIT_SIDE = 48
"""Pixels on the longer side of the small copy of a page on which the light is studied."""

WIDEST_STROKE = 0.6
"""Of the page's shorter side; what is wider and differs from the paper is a shadow."""

FAINTEST = 0.06
"""Contrast, of the full range, below which there is no ink."""

INK_SHARE = 0.33
"""Of the darkest ink's contrast, from which a pixel may be ink."""

NOISE_MARGIN = 4.5
"""Standard deviations of the paper's noise which ink exceeds: among 400,000 pixels of paper, about one does."""

BLANK_MARGIN = 4
"""Standard deviations of the paper's noise which the mean of the ink exceeds."""

SOFT_EDGE = 0.06
"""Of the page's shorter side; edges as soft as that are those of shadows."""

EIGHT_NEIGHBOURS = np.ones((3, 3), bool)


def find_ink(page: Pixels) -> Pixels:
    """Cut the digit's ink out of a page.

    Args:
        page: (height, width, 3), RGB from 0 to 1.

    Returns:
        (rows, columns): 0 is paper, 1 is ink, with soft edges, and a little paper around the ink.

    Raises:
        KdError: there is no ink on the page.
    """
    page = _without_blocks(page)
    contrast = _along_ink_colour(page - _paper(page))
    noise = _noise(contrast)
    contrast = _without_shadows(_enlarge(contrast))
    contrast = _without_ruled_lines(contrast, _level(float(contrast.max()), noise) / 2)
    smooth = _smooth(contrast)
    darkness = _Pieces(smooth, _level(float(smooth.max()), noise)).darkness()
    if darkness < max(FAINTEST, BLANK_MARGIN * noise):
        raise KdError("it is blank")
    # Once more, with a level that fits the digit rather than the darkest speck.
    return _cut_out(contrast, _Pieces(smooth, _level(darkness, noise)).digit())


def _without_blocks(page: Pixels) -> Pixels:
    """Undo an enlargement that repeated pixels, whose blocks have edges that no ink has, if there was one."""
    size = page.shape[:2]
    edges = [np.nonzero(np.any(np.diff(page, axis=axis) != 0, axis=(1 - axis, 2)))[0] + 1 for axis in (0, 1)]
    block = min(int(np.diff(each, prepend=0, append=side).min()) for each, side in zip(edges, size, strict=True))
    if block < 3:
        return page
    # From 8 to 300 pixels, blocks are 37 or 38 wide: their count is what is whole, and edges lie within a pixel of it.
    counts = [round(side / block) for side in size]
    for each, side, n in zip(edges, size, counts, strict=True):
        if np.abs(each - np.round(each * n / side) * side / n).max(initial=0) > 1:
            return page
    rows, columns = (((np.arange(n) + 0.5) * side / n).astype(int) for n, side in zip(counts, size, strict=True))
    return page[np.ix_(rows, columns)]


def _paper(page: Pixels) -> Pixels:
    """The colour of the paper at each pixel: a smooth surface through what agrees with the page's border.

    A quadratic in the coordinates, per channel, by iteratively reweighted least squares with Cauchy's weights, so that
    ink counts for little.
    """
    step = -(-max(page.shape[:2]) // FIT_SIDE)
    small = _block_means(page, step)
    border = np.concatenate([small[0], small[-1], small[:, 0], small[:, -1]])
    colours = small.reshape(-1, 3)
    basis = _quadratic(*small.shape[:2])
    surface = np.median(border, axis=0)
    spread = 0.1
    for _ in range(8):
        distance = np.linalg.norm(colours - surface, axis=1)
        spread = float(np.clip(1.5 * np.median(distance), 0.01, spread))
        weighted = basis / (1 + (distance / spread) ** 2)[:, None]
        coefficients = np.linalg.lstsq(weighted.T @ basis, weighted.T @ colours, rcond=None)[0]
        surface = basis @ coefficients
    paper: Pixels = (_quadratic(*page.shape[:2]) @ coefficients).reshape(page.shape)
    return paper


def _quadratic(height: int, width: int) -> Pixels:
    """The terms of a quadratic at each pixel of a page, whatever its resolution: (height * width, 6)."""
    y = np.linspace(-1 + 1 / height, 1 - 1 / height, height, dtype=np.float32)[:, None]
    x = np.linspace(-1 + 1 / width, 1 - 1 / width, width, dtype=np.float32)[None]
    terms = np.broadcast_arrays(np.float32(1), x, y, x * x, x * y, y * y)
    return np.stack(terms, axis=-1).reshape(-1, 6)


def _along_ink_colour(difference: Pixels) -> Pixels:
    """Differences from the paper, (height, width, 3) -> how far each goes the ink's way, (height, width)."""
    smooth = ndimage.gaussian_filter(difference, (1, 1, 0))
    distance = np.linalg.norm(smooth, axis=2)
    strongest = smooth[distance >= 0.5 * distance.max()]
    _, _, directions = np.linalg.svd(strongest.T @ strongest)
    contrast: Pixels = difference @ directions[0]
    return contrast if (strongest @ directions[0]).sum() > 0 else -contrast


def _without_shadows(contrast: Pixels) -> Pixels:
    """Take away what is too wide for a stroke, by a morphological opening of a small copy of the page."""
    step = -(-max(contrast.shape) // FIT_SIDE)
    small = _block_means(contrast[..., None], step)[..., 0]
    window = max(3, round(WIDEST_STROKE * min(small.shape)))
    wide = ndimage.grey_opening(small, (window, window), mode="nearest")
    wide = ndimage.gaussian_filter(wide, 1, mode="nearest")
    flat: Pixels = contrast - _resize(wide, contrast.shape, Image.Resampling.BILINEAR)
    flat -= np.median(flat)
    return flat


def _enlarge(contrast: Pixels) -> Pixels:
    factor = -(-SMALL_PAGE // min(contrast.shape))
    if factor == 1 or max(contrast.shape) >= 4 * SMALL_PAGE:
        return contrast
    height, width = contrast.shape
    return _resize(contrast, (factor * height, factor * width), Image.Resampling.BICUBIC)


def _without_ruled_lines(contrast: Pixels, level: float) -> Pixels:
    """Take away thin lines that run from one edge of the page to the opposite one."""
    for _ in ("level", "upright"):
        lines = _level_lines(_smooth(contrast) > level)
        contrast = (_erase(contrast, lines) if lines.any() else contrast).T
    return contrast


def _level_lines(mask: Mask) -> Mask:
    height, width = mask.shape
    if not (mask[:, :3].any() and mask[:, -3:].any()):
        return np.zeros_like(mask)
    # In an eighth of the width even a crooked line is level enough; its stretches still hang together.
    stretches = ndimage.grey_opening(mask.view(np.uint8), (1, max(3, width // 8)))
    labels, count = ndimage.label(stretches, EIGHT_NEIGHBOURS)
    across = np.intersect1d(labels[:, :3], labels[:, -3:])
    areas = np.bincount(labels.ravel(), minlength=count + 1)
    lines = [label for label in across if label and areas[label] / width < max(3, 0.06 * height)]
    return _among(labels, lines)


def _erase(contrast: Pixels, lines: Mask) -> Pixels:
    """Replace lines by what is on both sides of them, so that a stroke across a line goes on."""
    lines = ndimage.binary_dilation(lines, EIGHT_NEIGHBOURS)
    runs = lines.sum(axis=0)
    rows = np.diff(lines.astype(np.int8), axis=0, prepend=0) == 1
    thickness = int(np.ceil(runs.sum() / max(1, rows.sum()))) + 1
    padded = np.pad(contrast, ((thickness, thickness), (0, 0)), mode="edge")
    both_sides = np.minimum(padded[: -2 * thickness], padded[2 * thickness :])
    # A stroke along a line is darker than the line, and stays; one as dark is known by going on at both sides.
    line_only = lines & (contrast < 1.5 * np.median(contrast[lines]))
    return np.where(line_only, np.minimum(contrast, both_sides), contrast)


class _Pieces:
    """The connected pieces of what stands out from the paper.

    Attributes:
        mass: of each piece, by its label, how much ink it is; what has soft edges, as shadows have, counts little.
    """

    def __init__(self, contrast: Pixels, level: float) -> None:
        self.contrast = contrast
        self.labels, _ = ndimage.label(contrast > level, EIGHT_NEIGHBOURS)
        sharp = contrast - _blur(contrast, SOFT_EDGE * min(contrast.shape))
        self.mass = np.bincount(self.labels.ravel(), sharp.clip(0).ravel())
        self.mass[0] = 0

    def darkness(self) -> float:
        """The mean contrast of the heaviest piece, where darker pixels count for more than its soft edges; or 0."""
        if not self.mass.any():
            return 0.0
        values = self.contrast[self.labels == self.mass.argmax()]
        return float((values * values).sum() / values.sum())

    def digit(self) -> Mask:
        """The heaviest piece, and the others that are near and heavy enough to be parts of a broken digit."""
        boxes = ndimage.find_objects(self.labels)
        heaviest = self.mass.argmax()
        home = boxes[heaviest - 1]
        reach = 0.3 * max(side.stop - side.start for side in home)
        parts = [
            label
            for label, box in enumerate(boxes, start=1)
            if self.mass[label] >= 0.04 * self.mass[heaviest]
            and all(b.start < h.stop + reach and b.stop > h.start - reach for b, h in zip(box, home, strict=True))
        ]
        return _among(self.labels, parts)


def _cut_out(contrast: Pixels, digit: Mask) -> Pixels:
    """The digit's own grey levels, as a share of the full ink around them, within a little more than its outline."""
    rows, columns = (np.nonzero(digit.any(axis=axis))[0] for axis in (1, 0))
    side = max(np.ptp(rows), np.ptp(columns)) + 1
    margin = max(2, round(0.15 * side))
    window = (
        slice(max(0, rows[0] - margin), rows[-1] + margin + 1),
        slice(max(0, columns[0] - margin), columns[-1] + margin + 1),
    )
    contrast, digit = contrast[window], digit[window]
    weight = np.where(digit, contrast.clip(0), 0)
    reach = max(1.0, 0.15 * side)
    full = _blur(weight * weight, reach) / np.maximum(_blur(weight, reach), 1e-6)
    near = ndimage.binary_dilation(digit, EIGHT_NEIGHBOURS, iterations=max(1, round(0.04 * side)))
    ink: Pixels = np.where(near, (contrast / np.maximum(full, 1e-6)).clip(0, 1), 0).astype(np.float32)
    return ink


def _among(labels: NDArray[np.int32], chosen: list[int]) -> Mask:
    table = np.zeros(int(labels.max()) + 1, bool)
    table[chosen] = True
    mask: Mask = table[labels]
    return mask


def _block_means(page: Pixels, step: int) -> Pixels:
    rows, columns = (np.arange(0, side, step) for side in page.shape[:2])
    sums = np.add.reduceat(np.add.reduceat(page, rows, axis=0), columns, axis=1)
    counts = np.diff(rows, append=page.shape[0])[:, None] * np.diff(columns, append=page.shape[1])
    means: Pixels = (sums / counts[..., None]).astype(np.float32)
    return means


def _resize(pixels: Pixels, shape: tuple[int, ...], resampling: Image.Resampling) -> Pixels:
    return np.asarray(Image.fromarray(pixels).resize((shape[1], shape[0]), resampling))


def _smooth(contrast: Pixels) -> Pixels:
    """Enough to tell strokes from noise and the blocks of JPEG, too little to close a loop."""
    smooth: Pixels = ndimage.gaussian_filter(contrast, 1)
    return smooth


def _blur(contrast: Pixels, sigma: float) -> Pixels:
    """A wide Gaussian blur, computed on a small copy."""
    step = max(1, int(sigma / 2))
    small = ndimage.gaussian_filter(_block_means(contrast[..., None], step)[..., 0], sigma / step)
    return _resize(small, contrast.shape, Image.Resampling.BILINEAR)


def _level(darkest: float, noise: float) -> float:
    """The contrast from which a pixel may be ink: clear of the noise, but never more than half of the darkest."""
    return min(max(INK_SHARE * darkest, NOISE_MARGIN * noise, FAINTEST / 2), darkest / 2)


def _noise(contrast: Pixels) -> float:
    """Standard deviation of the paper's noise, after `_smooth`, from how much most pixels differ from those around."""
    roughness = np.abs(contrast - ndimage.uniform_filter(contrast, 3))
    deviation = float(np.quantile(roughness, 0.3)) / (0.385 * 0.943)  # 30 % of a normal variable; the mean's own share
    return 0.28 * deviation  # a Gaussian of 1 pixel leaves this much of white noise
