"""Quality of a network: accuracy, negative log-likelihood, calibration, confusion, agreement with the teacher."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from kd_cli.config import ECE_BINS
from kd_cli.evaluation.measures import Bin, Disagreement, Opinion, Quality


def measure_quality(logits: Tensor, labels: Tensor, teacher_logits: Tensor | None = None) -> Quality:
    """Compare logits, (N, classes), with labels, (N,), and with the teacher's logits if there are any.

    Everything is computed on the CPU in 64 bits, which not every device has.
    """
    logits, labels = logits.cpu(), labels.cpu()
    classes = logits.shape[1]
    predicted = logits.argmax(dim=1)
    confusion = torch.bincount(labels * classes + predicted, minlength=classes**2).view(classes, classes)
    correct, counts = confusion.diagonal().tolist(), confusion.sum(dim=1).tolist()
    return Quality(
        accuracy=sum(correct) / len(labels),
        error_count=len(labels) - sum(correct),
        nll=F.cross_entropy(logits.double(), labels).item(),
        ece=expected_calibration_error(logits, labels),
        agreement=None if teacher_logits is None else measure_agreement(logits, teacher_logits),
        per_class_accuracy=tuple(hits / count if count else None for hits, count in zip(correct, counts, strict=True)),
        confusion=tuple(map(tuple, confusion.tolist())),
        calibration=tuple(measure_calibration(logits, labels)),
    )


def measure_accuracy(logits: Tensor, labels: Tensor) -> tuple[float, int]:
    """Accuracy, and the number of errors, of logits, (N, classes), for labels, (N,)."""
    errors = int((logits.argmax(dim=1) != labels).sum())
    return (len(labels) - errors) / len(labels), errors


def chance_accuracy(labels: Tensor) -> float:
    """The accuracy of predicting the most frequent class every time, for labels, (N,)."""
    return labels.bincount().max().item() / len(labels)


def measure_agreement(logits: Tensor, teacher_logits: Tensor) -> float:
    """Share of images for which both networks predict the same class."""
    return int((logits.argmax(dim=1).cpu() == teacher_logits.argmax(dim=1).cpu()).sum()) / len(logits)


def expected_calibration_error(logits: Tensor, labels: Tensor) -> float:
    """ECE with 15 equal-width bins (Guo et al. 2017, equation 3).

    The mean over all images of |accuracy - confidence|, where each image takes both means over its bin.
    """
    bins = measure_calibration(logits, labels)
    gaps = (each.count * abs((each.accuracy or 0) - (each.confidence or 0)) for each in bins)
    return sum(gaps) / len(labels)


def measure_calibration(logits: Tensor, labels: Tensor) -> list[Bin]:
    """The reliability table: how often a network is correct at which confidence, in 15 equal-width bins."""
    confidence, predicted = logits.cpu().double().softmax(dim=1).max(dim=1)
    confident, correct = confidence.numpy(), (predicted == labels.cpu()).double().numpy()
    counts, edges = np.histogram(confident, bins=ECE_BINS, range=(0, 1))
    sums = [np.histogram(confident, bins=edges, weights=weights)[0] for weights in (confident, correct)]
    rows = zip(edges[:-1], edges[1:], counts, *sums, strict=True)
    return [
        Bin(float(low), float(high), int(n), float(confident / n) if n else None, float(correct / n) if n else None)
        for low, high, n, confident, correct in rows
    ]


def find_disagreements(student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, most: int) -> list[Disagreement]:
    """The images for which student and teacher predict different classes, the most telling ones first.

    A disagreement tells the more, the more the student's probabilities would have surprised the teacher: by
    KL(teacher || student). A toss-up between two classes is no surprise; a sure teacher contradicted by a sure student
    is.
    """
    student, teacher = (each.cpu().double().log_softmax(dim=1) for each in (student_logits, teacher_logits))
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
