"""Biases for classes: what a network's logits say once a number is added to those of some classes."""

import math
from collections.abc import Collection, Mapping

import torch
from torch import Tensor

BEYOND = 1.0
"""How far a bias lies beyond all thresholds where the errors are fewest there."""


def add_biases(logits: Tensor, biases: Mapping[int, float]) -> Tensor:
    """Logits, (N, classes), with a number added to those of each class that has one, by its label."""
    added = torch.zeros(logits.shape[1], dtype=logits.dtype, device=logits.device)
    for label, bias in biases.items():
        added[label] = bias
    return logits + added


def fit_bias(logits: Tensor, labels: Tensor, classes: Collection[int]) -> float:
    """The number that leaves fewest errors when it is added to the logits of each of these classes.

    Hinton et al. 2015, section 3, who raise the bias of a class that the student never saw. The errors change only
    where the best logit of these classes overtakes the best of the others, so all that can be reached are counted. Of
    ranges with as few errors the widest is taken, and its middle.

    Args:
        logits: (N, classes), of images that the network did not learn.
        labels: (N,).
        classes: labels of some classes, but not of all.
    """
    logits, labels = logits.double().cpu(), labels.cpu()
    chosen = torch.zeros(logits.shape[1], dtype=torch.bool)
    chosen[list(classes)] = True
    inside, if_inside = logits.masked_fill(~chosen, -math.inf).max(dim=1)
    outside, if_outside = logits.masked_fill(chosen, -math.inf).max(dim=1)
    thresholds, order = (outside - inside).sort()
    gains = (if_inside == labels).long() - (if_outside == labels).long()
    # Entry k: the correct predictions, but for a constant, with a bias between thresholds k - 1 and k.
    correct = torch.cat([torch.zeros(1, dtype=torch.long), gains[order].cumsum(dim=0)])
    ends = torch.cat([thresholds[:1] - 2 * BEYOND, thresholds, thresholds[-1:] + 2 * BEYOND])
    widths = ends.diff()
    best = correct.masked_fill(widths == 0, correct.min() - 1)
    widest = widths.masked_fill(best < best.max(), -1).argmax()
    return float(ends[widest] + widths[widest] / 2)
