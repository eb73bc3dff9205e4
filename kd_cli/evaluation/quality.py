"""Quality of a network: accuracy, negative log-likelihood, calibration, confusion, agreement with the teacher."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from kd_cli.settings import ECE_BINS


@dataclass(frozen=True)
class Bin:
    """Pictures of similar confidence, from ``low`` to below ``high``; the means are None where there are none."""

    low: float
    high: float
    count: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True)
class Opinion:
    """What a network takes a picture for, and how surely."""

    class_index: int
    confidence: float


@dataclass(frozen=True)
class Disagreement:
    """A test picture on which student and teacher differ; ``divergence`` is KL(teacher || student) in nats."""

    index: int
    label: int
    teacher: Opinion
    student: Opinion
    divergence: float


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
    calibration: list[Bin]


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
        calibration=measure_calibration(logits, labels),
    )


def measure_agreement(logits: Tensor, teacher_logits: Tensor) -> float:
    """Share of pictures on which both networks give the same class."""
    return (logits.argmax(dim=1) == teacher_logits.argmax(dim=1)).double().mean().item()


def expected_calibration_error(logits: Tensor, labels: Tensor) -> float:
    """ECE with 15 equal-width bins (Guo et al. 2017, equation 3).

    The mean over all pictures of |accuracy - confidence|, where each picture takes both means over its bin.
    """
    bins = measure_calibration(logits, labels)
    gaps = (each.count * abs((each.accuracy or 0) - (each.confidence or 0)) for each in bins)
    return sum(gaps) / len(labels)


def measure_calibration(logits: Tensor, labels: Tensor) -> list[Bin]:
    """The reliability table: how often a network is right where it is how sure, in 15 equal-width bins."""
    confidence, predicted = logits.double().softmax(dim=1).max(dim=1)
    sure, right = confidence.cpu().numpy(), (predicted == labels).double().cpu().numpy()
    counts, edges = np.histogram(sure, bins=ECE_BINS, range=(0, 1))
    sums = [np.histogram(sure, bins=edges, weights=weights)[0] for weights in (sure, right)]
    rows = zip(edges[:-1], edges[1:], counts, *sums, strict=True)
    return [
        Bin(float(low), float(high), int(n), float(sure / n) if n else None, float(right / n) if n else None)
        for low, high, n, sure, right in rows
    ]


def find_disagreements(student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, most: int) -> list[Disagreement]:
    """The pictures that student and teacher take for different classes, the most telling ones first.

    A disagreement tells the more, the more the student's probabilities would have surprised the teacher: by
    KL(teacher || student). A toss-up between two classes is no surprise; a sure teacher contradicted by a sure student
    is.
    """
    student, teacher = (each.double().log_softmax(dim=1) for each in (student_logits, teacher_logits))
    divergence = F.kl_div(student, teacher, reduction="none", log_target=True).sum(dim=1)
    differ = student.argmax(dim=1) != teacher.argmax(dim=1)
    order = divergence.masked_fill(~differ, -1).argsort(descending=True, stable=True)[: min(most, int(differ.sum()))]
    return [
        Disagreement(i, int(labels[i]), _opinion(teacher[i]), _opinion(student[i]), float(divergence[i]))
        for i in order.tolist()
    ]


def _opinion(log_probabilities: Tensor) -> Opinion:
    value, index = log_probabilities.max(dim=0)
    return Opinion(int(index), float(value.exp()))
