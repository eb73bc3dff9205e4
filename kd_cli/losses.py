"""Distillation losses: pure functions of tensors, each with the paper and the equation that it follows.

In all of them N is the batch, gradients flow into the student's tensor (and into projections made from it), and the
result is a scalar. Every loss is finite, and so are its
gradients, for a batch of one and for logits of +-1e4. Default weights are not here but in `methods`.

Losses of logits compute their gradient beside their value: both share most of the arithmetic, and for a batch of 64x10
autograd's bookkeeping would take several times as long as that arithmetic. No second derivatives, therefore.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

MASKED = -1e30
"""A logit that no other logit can lose against. Finite, because 0 * infinity is not a number."""


class _WithGradient(torch.autograd.Function):
    """A scalar whose gradient with respect to ``logits`` is known already."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
        ctx.gradient = gradient
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor, None, None]:
        return outer * ctx.gradient, None, None


def _with_gradient(logits: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
    known: Tensor = _WithGradient.apply(logits, value, gradient)
    return known


def soft_target_loss(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """``T^2 * KL(softmax(teacher / T) || softmax(student / T))``, averaged over the batch.

    Hinton, Vinyals & Dean 2015, "Distilling the Knowledge in a Neural Network", section 2. The factor ``T^2`` keeps the
    size of the gradients independent of the temperature (equation 4), so that `alpha` means the same at every T. The
    gradient is ``T / N * (softmax(student / T) - softmax(teacher / T))`` (equation 2).

    Args:
        student_logits: (N, classes); gradients flow into these.
        teacher_logits: (N, classes).
        temperature: T > 0; higher is softer.

    Returns:
        A scalar, zero where the two distributions are equal.
    """
    return _with_gradient(student_logits, *_soft_target(student_logits, teacher_logits, temperature))


def _soft_target(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    logs = F.log_softmax(_both(student_logits, teacher_logits) / temperature, dim=2)
    student, teacher = logs.exp()
    scale = temperature / len(student_logits)
    return _divergence(teacher, logs) * (scale * temperature), (student - teacher) * scale


def logit_matching_loss(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """``1/2 * ||student - teacher||^2``, averaged over the batch; logits are (N, classes).

    Ba & Caruana 2014, "Do Deep Nets Really Need to be Deep?", equation 1.
    """
    return F.mse_loss(student_logits, teacher_logits, reduction="sum") / (2 * len(student_logits))


def decoupled_loss(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, temperature: float, target: float, others: float
) -> Tensor:
    """The soft-target loss in two parts: how probable the labelled class is, and how the others share the rest.

    Zhao et al. 2022, "Decoupled Knowledge Distillation", equations 6 and 7: target-class distillation (TCKD) is the KL
    between the binary distributions b = (labelled class, any other), non-target-class distillation (NCKD) that between
    the distributions q over the other classes. Both carry T^2. With weight 1 for the first, and the teacher's share of
    the other classes for the second, this is `soft_target_loss` again.

    The logits reach b as the labelled one and as the log-sum-exp of the others, whose gradient is q. So TCKD has the
    gradient ``T / N * (b_student - b_teacher) * (1 at the label, -q_student elsewhere)``, with b the labelled class's
    probability, and NCKD has ``T / N * (q_student - q_teacher)``.

    Args:
        student_logits: (N, classes).
        teacher_logits: (N, classes).
        labels: (N,), int64.
        temperature: T > 0.
        target: weight of TCKD (alpha in the paper).
        others: weight of NCKD (beta in the paper).
    """
    logits = _both(student_logits, teacher_logits) / temperature
    label = labels.view(1, -1, 1).expand(2, -1, 1)
    # The other classes' share is any other class's logit without its log-probability among the others; take the next.
    any_other = (label + 1) % logits.shape[2]
    log_q = F.log_softmax(logits.scatter(2, label, MASKED), dim=2)
    share = logits.gather(2, any_other) - log_q.gather(2, any_other)
    log_b = F.log_softmax(torch.cat([logits.gather(2, label), share], dim=2), dim=2)
    (b_student, b_teacher), (q_student, q_teacher) = log_b.exp(), log_q.exp()
    scale = temperature / len(student_logits)
    tckd = _divergence(b_teacher, log_b) * (target * scale * temperature)
    nckd = _divergence(q_teacher, log_q) * (others * scale * temperature)
    more = (b_student - b_teacher)[:, :1] * (target * scale)
    gradient = ((q_student - q_teacher) * (others * scale)).addcmul_(q_student, more, value=-1)
    return _with_gradient(student_logits, tckd + nckd, gradient.scatter_(1, label[0], more))


def relation_loss(
    student_logits: Tensor, teacher_logits: Tensor, temperature: float, between: float, within: float
) -> Tensor:
    """``T^2 * (1 - Pearson correlation)`` of the softened probabilities, between classes and within each class.

    Huang et al. 2022, "Knowledge Distillation from A Stronger Teacher" (DIST), equations 8 (inter-class: each picture's
    row of probabilities) and 9 (intra-class: each class's column over the batch). A row or column without variance
    correlates with nothing: it costs 1 and has no gradient. So does every column of a batch of one.

    Args:
        student_logits: (N, classes).
        teacher_logits: (N, classes).
        temperature: T > 0.
        between: weight of the inter-class part (beta in the paper).
        within: weight of the intra-class part (gamma in the paper).
    """
    probabilities = F.softmax(_both(student_logits, teacher_logits) / temperature, dim=2)
    student = probabilities[0]
    rows, rows_gradient = _decorrelation(probabilities, dim=2)
    columns, columns_gradient = _decorrelation(probabilities, dim=1)
    weighted = student * (rows_gradient * (between * temperature) + columns_gradient * (within * temperature))
    gradient = weighted - student * weighted.sum(dim=1, keepdim=True)  # through the softmax
    value = rows * (between * temperature**2) + columns * (within * temperature**2)
    return _with_gradient(student_logits, value, gradient)


def _decorrelation(pair: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """1 - the mean correlation of the vectors along ``dim`` in a (2, N, classes) pair, and the first one's gradient.

    With u and v the centred vectors at unit length, the correlation is <u, v>, and its gradient (v - <u, v> u) / |a|
    with |a| the length that u had.
    """
    centred = pair - pair.mean(dim=dim, keepdim=True)
    lengths = centred.norm(dim=dim, keepdim=True).clamp_min(1e-8)
    u, v = centred / lengths
    correlation = (u * v).sum(dim=dim - 1, keepdim=True)
    return 1 - correlation.mean(), (correlation * u - v) / (lengths[0] * correlation.numel())


def standardised_soft_target_loss(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """`soft_target_loss` of logits brought to mean 0 and standard deviation 1, picture by picture; (N, classes) each.

    Sun et al. 2024, "Logit Standardization in Knowledge Distillation", algorithm 1: the student need only match the
    order and the proportions of the teacher's logits, not their size.

    A gradient g of the standardised logits z becomes ``(g - mean(g) - z * <g, z> / (classes - 1)) / deviation``.
    """
    both = _both(student_logits, teacher_logits)
    deviations, means = torch.std_mean(both, dim=2, keepdim=True)
    deviations = deviations + 1e-7  # the authors' guard for logits that are all equal
    student, teacher = (both - means) / deviations
    value, gradient = _soft_target(student, teacher, temperature)  # this gradient has mean 0 already
    along = (gradient * student).sum(dim=1, keepdim=True) / (student.shape[1] - 1)
    return _with_gradient(student_logits, value, (gradient - student * along) / deviations[0])


def hint_loss(student_features: Tensor, teacher_features: Tensor) -> Tensor:
    """Mean squared difference of features, (N, features) each, the student's after a learnt projection.

    Romero et al. 2015, "FitNets: Hints for Thin Deep Nets", equation 3, as a mean over the features in place of half
    the sum, so that the weight does not depend on how many there are (Tian et al. 2020 compare methods that way).
    """
    return F.mse_loss(student_features, teacher_features)


def attention_loss(student_maps: Tensor, teacher_maps: Tensor) -> Tensor:
    """Mean squared difference of attention maps: the sum of squares over the channels, scaled to unit length.

    Zagoruyko & Komodakis 2017, "Paying More Attention to Attention", section 3.1, equation 2, in the form of its
    authors' code: squared distance, as a mean over pictures and places.

    Args:
        student_maps: (N, channels, height, width).
        teacher_maps: (N, other channels, height, width).
    """
    return F.mse_loss(_attention(student_maps), _attention(teacher_maps))


def _attention(maps: Tensor) -> Tensor:
    return F.normalize(maps.square().mean(dim=1).flatten(1))


def similarity_loss(student_features: Tensor, teacher_features: Tensor) -> Tensor:
    """``||G_student - G_teacher||^2 / N^2`` with G the pictures' inner products, each row scaled to unit length.

    Tung & Mori 2019, "Similarity-Preserving Knowledge Distillation", equations 1 to 4. Features are (N, anything), and
    need not be as many on both sides.
    """
    return F.mse_loss(_similarities(student_features), _similarities(teacher_features))


def _similarities(features: Tensor) -> Tensor:
    flat = features.flatten(1)
    return F.normalize(flat @ flat.T)


def relational_losses(student_features: Tensor, teacher_features: Tensor) -> tuple[Tensor, Tensor]:
    """Huber loss between the distances of pairs, and between the angles of triples, of the batch's features.

    Park et al. 2019, "Relational Knowledge Distillation", equations 4 to 6 (distances, in units of their mean over the
    batch) and 7 to 8 (cosines of the angle at each picture between any two others). Features are (N, anything), and
    need not be as many on both sides. A batch of one has no pairs: both losses are 0.

    Returns:
        The distance loss and the angle loss.
    """
    student, teacher = student_features.flatten(1), teacher_features.flatten(1)
    student_distances, teacher_distances = _distances(student), _distances(teacher)
    distance = F.smooth_l1_loss(_relative(student_distances), _relative(teacher_distances))
    angle = F.smooth_l1_loss(_angles(student, student_distances), _angles(teacher, teacher_distances))
    return distance, angle


def _distances(features: Tensor) -> Tensor:
    # Computed from differences: by way of inner products, small distances would drown in rounding.
    return torch.cdist(features, features, compute_mode="donot_use_mm_for_euclid_dist")


def _relative(distances: Tensor) -> Tensor:
    pairs = max(len(distances) * (len(distances) - 1), 1)
    return distances / (distances.sum() / pairs).clamp_min(torch.finfo(distances.dtype).tiny)


def _angles(features: Tensor, distances: Tensor) -> Tensor:
    """``cosines[i, j, k]`` of the angle at i between j and k; 0 where two of them are in the same place.

    <i - j, i - k> = <i, i> - <i, j> - <i, k> + <j, k>: inner products of pictures, N^2 of them, make all N^3 angles
    without N^2 difference vectors. Around the batch's mean, which changes no angle, they are small and exact.
    """
    centred = features - features.mean(dim=0)
    inner = centred @ centred.T
    apart = distances > 0
    inverse = apart / distances.where(apart, 1)
    to_side = inner.diagonal().unsqueeze(1) - inner
    products = to_side.unsqueeze(2) - inner.unsqueeze(1) + inner.unsqueeze(0)
    return products * inverse.unsqueeze(2) * inverse.unsqueeze(1)


def probability_transfer_loss(student_features: Tensor, teacher_features: Tensor) -> Tensor:
    """KL between the pictures' chances to be each other's neighbour, as a mean over all N^2 pairs.

    Passalis & Tefas 2018, "Learning Deep Representations with Probabilistic Knowledge Transfer", equations 3 to 9 with
    the cosine kernel, which needs no bandwidth; the mean and the constant 1e-7 are those of its authors' code.
    Features are (N, anything), and need not be as many on both sides.
    """
    student, teacher = _neighbour_chances(student_features), _neighbour_chances(teacher_features)
    return (teacher * ((teacher + 1e-7) / (student + 1e-7)).log()).mean()


def _neighbour_chances(features: Tensor) -> Tensor:
    unit = F.normalize(features.flatten(1), eps=1e-7)
    kernel = (unit @ unit.T + 1) / 2
    return kernel / kernel.sum(dim=1, keepdim=True)


def correlation_loss(student_features: Tensor, teacher_features: Tensor, gamma: float = 0.4) -> Tensor:
    """``||C_student - C_teacher||^2 / N^2`` with C the pictures' correlations under a Gaussian kernel.

    Peng et al. 2019, "Correlation Congruence for Knowledge Distillation", equation 5, with the Taylor series of order
    2 of equation 8. The series is that of unit vectors, so the features, (N, anything), are scaled to length 1 first.
    """
    return F.mse_loss(_correlations(student_features, gamma), _correlations(teacher_features, gamma))


def _correlations(features: Tensor, gamma: float) -> Tensor:
    unit = F.normalize(features.flatten(1))
    exponent = 2 * gamma * (unit @ unit.T)
    series: Tensor = 1 + exponent + exponent.square() / 2
    return series * torch.exp(exponent.new_tensor(-2 * gamma))


def variational_loss(predicted_mean: Tensor, variance: Tensor, teacher_features: Tensor) -> Tensor:
    """How badly a Gaussian, predicted from the student's features, foretells the teacher's: ``-log q(t | s)``.

    Ahn et al. 2019, "Variational Information Distillation for Knowledge Transfer", equation 5, as a mean, without the
    constant.

    Args:
        predicted_mean: (N, features), made from the student's features by a learnt network.
        variance: (features,), learnt, positive, the same for all pictures.
        teacher_features: (N, features).
    """
    return F.gaussian_nll_loss(predicted_mean, teacher_features, variance.expand_as(predicted_mean))


def contrastive_loss(positive: Tensor, negatives: Tensor, noise: float) -> Tensor:
    """Tell the embedding of the same picture from those of K others, by noise-contrastive estimation.

    Tian, Krishnan & Isola 2020, "Contrastive Representation Distillation", equations 10, 17 and 18: with a critic
    h = p / (p + noise), the mean over the batch of -log h(positive) - sum over K of log(1 - h(negative)).

    Args:
        positive: (N,), logarithms of the critic's unnormalised p for the right pairs.
        negatives: (N, K), the same for wrong pairs.
        noise: K / pictures, the odds that a pair is a wrong one by chance.
    """
    shift = torch.log(positive.new_tensor(noise))
    right = F.softplus(shift - positive)
    wrong = F.softplus(negatives - shift).sum(dim=1)
    return (right + wrong).mean()


def _both(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Student and teacher as one tensor, (2, N, classes): half the operations, without history."""
    return torch.stack([student_logits.detach(), teacher_logits])


def _divergence(teacher: Tensor, logs: Tensor) -> Tensor:
    """Sum over the batch of KL(teacher || student), from the teacher's probabilities and the logarithms of both's."""
    return torch.dot(teacher.flatten(), (logs[1] - logs[0]).flatten())
