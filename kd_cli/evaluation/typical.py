"""Which outputs a network has for images like those that it learnt, and how near to them others come. Free of torch.

An image of something else is far from all that the network learnt, also where it is sure of a class. Sun et al. 2022
("Out-of-Distribution Detection with Deep Nearest Neighbors") measure how far by the direction of a network's features;
here it is that of the logits, which exported files have, too, and a few directions stand for the images of a class.
"""

import warnings

import numpy as np
from numpy.typing import NDArray

from kd_cli.networks.metadata import Typical

PER_CLASS = 5
"""Directions that stand for the images of a class."""

MOST_CLASSES = 50
"""With more, the directions would be as large as a network."""

SHARE = 0.015
"""Of the images that the directions are found from, how many have less than the least cosine."""

DIGITS = 4
"""Decimals that are kept."""

Logits = NDArray[np.float64]


def find_typical(logits: Logits, labels: NDArray[np.int64]) -> Typical | None:
    """Find what is typical of logits, (N, classes), of images like those that the network learnt.

    Args:
        logits: of at least one image.
        labels: their classes, (N,).

    Returns:
        None for more than `MOST_CLASSES`, and for logits that are all alike.
    """
    if logits.shape[1] > MOST_CLASSES or not np.ptp(logits, axis=1).any():
        return None
    directions = _to_directions(logits)
    groups = [directions[labels == label] for label in np.unique(labels)]
    centres = _to_directions(np.concatenate([_find_centres(group) for group in groups])).round(DIGITS)
    typical = Typical(tuple(map(tuple, centres.tolist())), least=-1)
    least = float(np.quantile(compute_likeness(logits, typical), SHARE))
    return Typical(typical.directions, least)


def compute_likeness(logits: Logits, typical: Typical) -> Logits:
    """The cosine between the logits of each image, (N, classes), and the nearest typical direction: (N,)."""
    cosines = _to_directions(logits) @ np.array(typical.directions).T
    nearest: Logits = cosines.max(axis=1).clip(-1, 1)
    return nearest


def _to_directions(logits: Logits) -> Logits:
    centred = logits - logits.mean(axis=1, keepdims=True)
    directions: Logits = centred / np.linalg.norm(centred, axis=1, keepdims=True).clip(min=np.finfo(float).tiny)
    return directions


def _find_centres(group: Logits) -> Logits:
    from scipy.cluster.vq import kmeans2  # takes a while to import, and who only predicts need not

    count = min(PER_CLASS, len(np.unique(group, axis=0)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a cluster that lost its last image stays where it was
        centres: Logits = kmeans2(group, count, minit="++", seed=0)[0]
    return centres
