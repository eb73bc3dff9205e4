"""Quality of a network: accuracy, negative log-likelihood, calibration, confusion, agreement with the teacher."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

ECE_BINS = 15


@dataclass(frozen=True)
class Quality:
    """What a network's logits say about labelled pictures.

    ``nll`` is the mean cross-entropy in nats. ``confusion[i][j]`` counts pictures of class i taken for class j.
    ``agreement`` is the share of pictures on which this network and the teacher give the same class.
    """

    accuracy: float
    error_count: int
    nll: float
    ece: float
    agreement: float | None
    per_class_accuracy: list[float | None]
    confusion: list[list[int]]


def measure_quality(logits: Tensor, labels: Tensor, teacher_logits: Tensor | None = None) -> Quality:
    """Compare logits, (N, classes), with labels, (N,), and with the teacher's logits if there are any."""
    classes = logits.shape[1]
    predicted = logits.argmax(dim=1)
    confusion = torch.bincount(labels * classes + predicted, minlength=classes**2).view(classes, classes).cpu()
    correct, seen = confusion.diagonal().tolist(), confusion.sum(dim=1).tolist()
    return Quality(
        accuracy=sum(correct) / len(labels),
        error_count=len(labels) - sum(correct),
        nll=F.cross_entropy(logits.double(), labels).item(),
        ece=expected_calibration_error(logits, labels),
        agreement=None if teacher_logits is None else measure_agreement(logits, teacher_logits),
        per_class_accuracy=[right / of if of else None for right, of in zip(correct, seen, strict=True)],
        confusion=confusion.tolist(),
    )


def measure_agreement(logits: Tensor, teacher_logits: Tensor) -> float:
    """Share of pictures on which both networks give the same class."""
    return (logits.argmax(dim=1) == teacher_logits.argmax(dim=1)).double().mean().item()


def expected_calibration_error(logits: Tensor, labels: Tensor) -> float:
    """ECE with 15 equal-width bins (Guo et al. 2017, equation 3).

    The mean over all pictures of |accuracy - confidence|, where each picture takes both means over its bin. A bin's
    share of the pictures times its gap is |sum of (correct - confidence)| / N, so one weighted histogram does it.
    """
    confidence, predicted = logits.double().softmax(dim=1).max(dim=1)
    gap = (predicted == labels).double() - confidence
    per_bin, _ = np.histogram(confidence.cpu().numpy(), bins=ECE_BINS, range=(0, 1), weights=gap.cpu().numpy())
    return float(np.abs(per_bin).sum() / len(labels))
