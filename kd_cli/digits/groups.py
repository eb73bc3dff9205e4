"""Which pieces of ink make up each digit: the parts of a broken one belong together, digits that are close do not."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from kd_cli.digits.boxes import Box

Labels = NDArray[np.int32]

LEAST_PART = 0.04
"""Of the heaviest piece's ink; what has less is a speck, and no part of a digit."""

LEAST_SHARPNESS = 0.25
"""Of the sharpest piece's ink for each pixel; what has less is a shadow."""

WIDEST = 1.8
"""How many times as wide as high a digit is at most; the bar of a 5, and a line below a number, are wider."""

LEAST_MASS = 0.1
"""Of the heaviest digit's ink, what another one has at least: a thin 1 beside a thick 8."""

LEAST_SIDE = 0.5
"""Of the heaviest digit's longer side, how long another one is at least."""

LEAST_HEIGHT = 0.4
"""Of the same, how high another one is at least."""

WIDEST_BREAK = 0.2
"""Of the same, the widest gap between the parts of a digit."""


def group(labels: Labels, mass: NDArray[np.float64]) -> list[list[int]]:
    """The pieces of each digit; where there is a single digit, one list at most, and it need not be complete.

    A piece that may be a digit by its size is one, unless it is close to another such piece that it does not stand
    beside: so are the halves of a broken 3. A smaller piece is a part of the digit that is closest, if one is close.

    Args:
        labels: which piece each pixel is of, (rows, columns); 0 is paper.
        mass: how much ink each piece is, by its label; what has soft edges counts little.
    """
    boxes = [Box(0, 0, 0, 0)]
    boxes += [Box(columns.start, rows.start, columns.stop, rows.stop) for rows, columns in ndimage.find_objects(labels)]
    sharpness = mass / np.maximum(1, np.bincount(labels.ravel()))
    parts = np.nonzero(mass[1:] >= LEAST_PART * mass.max())[0] + 1
    parts = parts[sharpness[parts] >= LEAST_SHARPNESS * sharpness[parts].max()]
    upright = [label for label in parts.tolist() if boxes[label].width <= WIDEST * boxes[label].height]
    heaviest = max(upright, key=lambda label: mass[label], default=0)
    size = boxes[heaviest].side
    digits = {
        label: [label]
        for label in upright
        if mass[label] >= LEAST_MASS * mass[heaviest]
        and boxes[label].side >= LEAST_SIDE * size
        and boxes[label].height >= LEAST_HEIGHT * size
    }
    if len(digits) < 2:
        return list(digits.values())
    loose = {label for label in parts.tolist() if label not in digits and boxes[label].side <= size}
    for one, other, gap in find_gaps(np.where(np.isin(labels, parts), labels, 0)):
        digit, part = (one, other) if one in digits else (other, one)
        if gap > WIDEST_BREAK * size or digit not in digits:
            continue
        if part in loose and not _is_dash(boxes[part], boxes[digit]):
            digits[digit].append(part)
            loose.remove(part)
        elif part in digits and digits[part] is not digits[digit] and _belong_together(boxes[part], boxes[digit]):
            together = digits[digit] + digits[part]
            digits |= {label: together for label in together if label in digits}
    return [together for label, together in digits.items() if together[0] == label]


def _belong_together(one: Box, other: Box) -> bool:
    """Whether two pieces that are close, and each as large as a digit, are one: two digits stand beside each other."""
    return one.is_in_line_with(other) or not one.is_level_with(other)


def _is_dash(part: Box, digit: Box) -> bool:
    """Whether a part lies beside a digit at half its height, as a dash between two digits does."""
    level = abs(part.top + part.bottom - digit.top - digit.bottom) < 0.5 * digit.height
    return level and not part.is_in_line_with(digit)


def find_gaps(labels: Labels) -> list[tuple[int, int, float]]:
    """Pieces that have no other one between them, and the pixels that are; the narrowest gap first.

    Every pixel of paper belongs to the nearest piece: a gap is narrowest somewhere where two such areas meet.
    """
    distance, nearest = ndimage.distance_transform_edt(labels == 0, return_indices=True)
    owner = labels[tuple(nearest)]
    met = []
    for areas, half in ((owner, distance), (owner.T, distance.T)):
        meet = areas[:-1] != areas[1:]
        met.append(np.stack([areas[:-1][meet], areas[1:][meet], (half[:-1] + half[1:])[meet]]))
    pairs = np.concatenate(met, axis=1)
    pairs[:2].sort(axis=0)
    pairs = pairs[:, pairs[2].argsort(kind="stable")]
    narrowest = np.sort(np.unique(pairs[:2], axis=1, return_index=True)[1])
    return [(int(one), int(other), gap) for one, other, gap in pairs[:, narrowest].T.tolist()]
