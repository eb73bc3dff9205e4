"""The losses of logits, each as its value together with its gradient.

Value and gradient share most of their arithmetic, and for a batch of 64 x 10 logits autograd's bookkeeping takes longer
than that arithmetic: a small student learns faster without it. `losses` has the same losses for autograd, with their
papers.

All of them work on `pair`\\ s, (2, classes, N): student and teacher as one tensor halve the number of operations, and
with the pictures last an operation over the classes is done for many pictures at a time.

Between two losses a training step uses more memory than a processor's nearest cache holds, so that the code of each
kind of operation must be fetched anew: here a multiplication and a sum are cheaper than any one operation that is not
needed anyhow.
"""

from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

MASKED = -1e30
"""A logit that no other logit can lose against. Finite, because 0 * infinity is not a number."""

CONSTANT = 1e-24
"""Squared length, without the mean, of a vector that varies by rounding alone: it correlates with nothing."""


class Graded(NamedTuple):
    """A scalar loss, and its gradient with respect to the student's logits, (classes, N)."""

    value: Tensor
    gradient: Tensor


def pair(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Two times (N, classes) as one (2, classes, N), without history."""
    return torch.stack([student_logits.detach().T, teacher_logits.T])


def add(*losses: Graded) -> Graded:
    """The sum of losses of the same logits."""
    value, gradient = losses[0]
    for other in losses[1:]:
        value, gradient = value + other.value, gradient + other.gradient
    return Graded(value, gradient)


def connect(student_logits: Tensor, loss: Graded) -> Tensor:
    """The loss, for autograd to go on from: its gradient reaches ``student_logits``, (N, classes)."""
    connected: Tensor = _Known.apply(student_logits, loss.value, loss.gradient.T)
    return connected


class _Known(torch.autograd.Function):
    """A scalar whose gradient is known already."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
        ctx.gradient = gradient
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor, None, None]:
        return outer * ctx.gradient, None, None


def cross_entropy(student_logits: Tensor, labels: Tensor, weight: float, complete: bool = True) -> Graded:
    """``weight`` times the mean negative log-probability of the labels, (N,), which logits, (classes, N), give them.

    The gradient is ``weight / N * (softmax - 1 at the label)``. Where the labels are not ``complete``, a negative one
    stands for none, and the mean is over the others, or 0 if there are none.
    """
    logs = F.log_softmax(student_logits, dim=0)
    if complete:
        target, scale = one_hot(labels, logs), weight / len(labels)
        return Graded((logs * target).sum() * -scale, (logs.exp() - target) * scale)
    known, target = labels >= 0, one_hot(labels.clamp_min(0), logs)
    shares = known * (weight / known.sum().clamp_min(1))
    return Graded(-(logs * target * shares).sum(), (logs.exp() - target) * shares)


def one_hot(labels: Tensor, like: Tensor) -> Tensor:
    """1 at each picture's label and 0 elsewhere, (classes, N): the labels, (N,), of logits of that shape."""
    return _identity(len(like), like.dtype, like.device).index_select(1, labels)


@cache
def _identity(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.eye(size, dtype=dtype, device=device)


def soft_targets(logits: Tensor, temperature: float, weight: float) -> Graded:
    """`losses.soft_target_loss`.

    The gradient is ``T / N * (softmax(student / T) - softmax(teacher / T))`` (Hinton et al. 2015, equation 2).
    """
    logs = F.log_softmax(logits * (1 / temperature), dim=1)
    student, teacher = logs.exp()
    scale = weight * temperature / logits.shape[2]
    return Graded(_divergence(teacher, logs) * (scale * temperature), (student - teacher) * scale)


def matching(logits: Tensor, weight: float) -> Graded:
    """`losses.logit_matching_loss`. The gradient is ``weight / N * (student - teacher)``."""
    difference = logits[0] - logits[1]
    scale = weight / logits.shape[2]
    return Graded((difference * difference).sum() * (scale / 2), difference * scale)


def decoupled(logits: Tensor, labels: Tensor, temperature: float, target: float, others: float) -> Graded:
    """`losses.decoupled_loss`.

    The logits reach the binary distribution b as the labelled one and as the log-sum-exp of the others, whose gradient
    is q, their softmax. So the target class's part has the gradient ``T / N * (b_student - b_teacher) * (1 at the
    label, -q_student elsewhere)``, with b the labelled class's probability, and the others' part has
    ``T / N * (q_student - q_teacher)``.
    """
    scale = temperature / len(labels)
    target_class = one_hot(labels, logits[0])
    softened = logits * (1 / temperature)
    labelled = (softened * target_class).sum(dim=1, keepdim=True)
    softened = softened.add_(target_class, alpha=MASKED)
    log_q = F.log_softmax(softened, dim=1)
    q = log_q.exp()
    # The others' log-sum-exp is what any of their logits exceeds its log_q by; weighing by q leaves the mask out.
    rest = ((softened - log_q) * q).sum(dim=1, keepdim=True)
    log_b = F.log_softmax(torch.stack([labelled, rest], dim=1), dim=1)
    b = log_b.exp()
    more = (b[0, 0] - b[1, 0]) * (target * scale)
    gradient = (q[0] - q[1]) * (others * scale) + (target_class - q[0]) * more  # q is 0 at the label
    value = _divergence(b[1], log_b) * target + _divergence(q[1], log_q) * others
    return Graded(value * (scale * temperature), gradient)


def relations(logits: Tensor, temperature: float, between: float, within: float) -> Graded:
    """`losses.relation_loss`."""
    classes, batch = logits.shape[1:]
    probabilities = F.softmax(logits * (1 / temperature), dim=1)
    mean_of_columns = probabilities.sum(dim=2, keepdim=True) * (1 / batch)
    of_rows, of_columns = between * temperature / batch, within * temperature / classes
    rows, rows_gradient = _correlate(probabilities - 1 / classes, 1, of_rows)  # a row sums to 1
    columns, columns_gradient = _correlate(probabilities - mean_of_columns, 2, of_columns)
    student = probabilities[0]
    weighted = student * (rows_gradient + columns_gradient)
    gradient = weighted - student * weighted.sum(dim=0, keepdim=True)  # through the softmax
    alike = rows * (of_rows * temperature) + columns * (of_columns * temperature)
    return Graded((between + within) * temperature**2 - alike, gradient)


def _correlate(centred: Tensor, dim: int, weight: float) -> tuple[Tensor, Tensor]:
    """The sum of the correlations of the vectors along ``dim`` of two matrices, and - weight times its gradient.

    The vectors have mean 0. With u and v the same at length 1, the correlation is <u, v>, and its gradient with respect
    to the first vector is (v - <u, v> u) / length, with the length that u had.
    """
    per_length = (centred * centred).sum(dim=dim, keepdim=True).add_(CONSTANT).rsqrt_()
    u, v = centred * per_length
    correlation = (u * v).sum(dim=dim - 1, keepdim=True)
    return correlation.sum(), (v - correlation * u) * (per_length[0] * -weight)


def standardised_soft_targets(logits: Tensor, temperature: float, weight: float) -> Graded:
    """`losses.standardised_soft_target_loss`.

    A gradient g of the standardised logits z becomes ``(g - mean(g) - z * <g, z> / (classes - 1)) / deviation``; the
    mean of this g is 0.
    """
    classes = logits.shape[1]
    centred = logits - logits.sum(dim=1, keepdim=True) * (1 / classes)
    variances = (centred * centred).sum(dim=1, keepdim=True) * (1 / (classes - 1))
    deviations = variances.sqrt_().add_(1e-7)  # the authors' guard for logits that are all equal
    standardised = centred / deviations
    value, gradient = soft_targets(standardised, temperature, weight)
    student = standardised[0]
    along = (gradient * student).sum(dim=0, keepdim=True) * (1 / (classes - 1))
    return Graded(value, (gradient - student * along) / deviations[0])


def _divergence(teacher: Tensor, logs: Tensor) -> Tensor:
    """Sum of the teacher's values times its logarithm's lead over the student's: KL(teacher || student), N times."""
    return (teacher * (logs[1] - logs[0])).sum()
