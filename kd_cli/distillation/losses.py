"""Distillation losses: pure functions of tensors, each with the paper and the equation that it follows.

In all of them N is the number of images in a batch, logits are (N, classes), labels are int64 (N,), and the temperature
T is above 0. Gradients flow into the student's tensor, and into layers that it was made with. The result is a scalar,
or a tuple of two scalars where the paper has two terms with a weight each. Values and gradients are finite for a batch
of one and for logits of +-1e4. Weights are not applied here: `methods` has their defaults, `objective` applies them.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

NO_VARIANCE = 1e-6
"""Length of a vector of probabilities around its mean, below which single precision leaves nothing but rounding."""


def soft_target_loss(student_logits: Tensor, teacher_logits: Tensor, temperature: float = 1.0) -> Tensor:
    """``T^2 * KL(softmax(teacher / T) || softmax(student / T))``, averaged over the batch.

    Hinton, Vinyals & Dean 2015, "Distilling the Knowledge in a Neural Network", section 2. The factor ``T^2`` keeps the
    size of the gradients independent of the temperature (equation 4), so that `alpha` means the same at every T. A
    higher T makes softer distributions. The loss is zero where the two are equal.
    """
    student, teacher = (F.log_softmax(logits / temperature, dim=1) for logits in (student_logits, teacher_logits))
    return _divergence(student, teacher, temperature)


def _divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """``T^2 * KL(teacher || student)`` of softened log-probabilities, (N, classes), averaged over the batch."""
    return F.kl_div(student, teacher, reduction="sum", log_target=True) * (temperature**2 / len(student))


def logit_matching_loss(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """``1/2 * ||student - teacher||^2``, averaged over the batch.

    Ba & Caruana 2014, "Do Deep Nets Really Need to be Deep?", equation 1.
    """
    return F.mse_loss(student_logits, teacher_logits) * (student_logits.shape[1] / 2)


def decoupled_losses(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """The soft-target loss in two parts: how probable the labelled class is, and how the others share the rest.

    Zhao et al. 2022, "Decoupled Knowledge Distillation", equations 6 and 7: target-class distillation (TCKD) is the KL
    between the binary distributions (labelled class, any other), non-target-class distillation (NCKD) that between the
    distributions over the other classes. Both carry T^2. TCKD, and NCKD times the teacher's share of the other
    classes, add up to `soft_target_loss` (equation 5).

    Returns:
        TCKD and NCKD; alpha and beta are their weights in the paper.
    """
    student, teacher = (_decouple(logits / temperature, labels) for logits in (student_logits, teacher_logits))
    target, others = (_divergence(s, t, temperature) for s, t in zip(student, teacher, strict=True))
    return target, others


def _decouple(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities of (labelled class, any other), (N, 2), and of the others, (N, classes - 1)."""
    label = labels.unsqueeze(1)
    columns = torch.arange(logits.shape[1] - 1, device=logits.device)
    others = logits.gather(1, columns + (columns >= label))  # every column but the label's
    binary = torch.cat([logits.gather(1, label), others.logsumexp(dim=1, keepdim=True)], dim=1)
    return F.log_softmax(binary, dim=1), F.log_softmax(others, dim=1)


def relation_losses(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """``T^2 * (1 - Pearson correlation)`` of the softened probabilities, between classes and within each class.

    Huang et al. 2022, "Knowledge Distillation from A Stronger Teacher" (DIST), equations 8 (inter-class: each image's
    row of probabilities) and 9 (intra-class: each class's column over the batch). A row or column without variance
    correlates with nothing and costs 1. So does every column of a batch of one.

    Returns:
        The inter-class and the intra-class term; beta and gamma are their weights in the paper.
    """
    student, teacher = (F.softmax(logits / temperature, dim=1) for logits in (student_logits, teacher_logits))
    between, within = (temperature**2 * (1 - _correlation(student, teacher, dim)) for dim in (1, 0))
    return between, within


def _correlation(a: Tensor, b: Tensor, dim: int) -> Tensor:
    """Mean Pearson correlation of the vectors along ``dim`` of two matrices."""
    a, b = (matrix - matrix.mean(dim=dim, keepdim=True) for matrix in (a, b))
    return F.cosine_similarity(a, b, dim=dim, eps=NO_VARIANCE).mean()


def standardised_soft_target_loss(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """`soft_target_loss` of logits brought to mean 0 and standard deviation 1, image by image.

    Sun et al. 2024, "Logit Standardization in Knowledge Distillation", algorithm 1: the student need only match the
    order and the proportions of the teacher's logits, not their size.
    """
    return soft_target_loss(_standardise(student_logits), _standardise(teacher_logits), temperature)


def _standardise(logits: Tensor) -> Tensor:
    std, mean = torch.std_mean(logits, dim=1, keepdim=True)
    return (logits - mean) / (std + 1e-7)  # the authors' guard for logits that are all equal


def hint_loss(student_features: Tensor, teacher_features: Tensor) -> Tensor:
    """Mean squared difference of features, (N, features) each, the student's after a learnt projection.

    Romero et al. 2015, "FitNets: Hints for Thin Deep Nets", equation 3, as a mean over the features in place of half
    the sum, so that the weight does not depend on how many there are (Tian et al. 2020 compare methods that way).
    """
    return F.mse_loss(student_features, teacher_features)


def attention_loss(student_maps: Tensor, teacher_maps: Tensor) -> Tensor:
    """Mean squared difference of attention maps: the sum of squares over the channels, scaled to unit length.

    Zagoruyko & Komodakis 2017, "Paying More Attention to Attention", section 3.1, equation 2, in the form of its
    authors' code: squared distance, as a mean over images and places.

    Args:
        student_maps: (N, channels, height, width).
        teacher_maps: (N, other channels, height, width); of another size, see `match_sizes`.
    """
    student_maps, teacher_maps = match_sizes(student_maps, teacher_maps)
    return F.mse_loss(_attention(student_maps), _attention(teacher_maps))


def match_sizes(student_maps: Tensor, teacher_maps: Tensor) -> tuple[Tensor, Tensor]:
    """Maps of the same height and width: the larger ones are averaged over neighbouring places.

    This is what the code of Tian et al. 2020 (RepDistiller) does for attention and for variational information
    distillation. Maps of the same size stay as they are.
    """
    height, width = (min(sides) for sides in zip(student_maps.shape[2:], teacher_maps.shape[2:], strict=True))
    student_maps, teacher_maps = (
        maps if maps.shape[2:] == (height, width) else F.adaptive_avg_pool2d(maps, (height, width))
        for maps in (student_maps, teacher_maps)
    )
    return student_maps, teacher_maps


def _attention(maps: Tensor) -> Tensor:
    return F.normalize(maps.square().mean(dim=1).flatten(1))


def similarity_loss(student_features: Tensor, teacher_features: Tensor) -> Tensor:
    """``||G_student - G_teacher||^2 / N^2`` with G the images' inner products, each row scaled to unit length.

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
    batch) and 7 to 8 (cosines of the angle at each image between any two others). Features are (N, anything), and need
    not be as many on both sides. A batch of one has no pairs: both losses are 0.

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

    <i - j, i - k> = <i, i> - <i, j> - <i, k> + <j, k>: inner products of images, N^2 of them, make all N^3 angles
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
    """KL between the probabilities that images are each other's neighbours, as a mean over all N^2 pairs.

    Passalis & Tefas 2018, "Learning Deep Representations with Probabilistic Knowledge Transfer", equations 3 to 9 with
    the cosine kernel, which needs no bandwidth; the mean and the constant 1e-7 are those of its authors' code.
    Features are (N, anything), and need not be as many on both sides.
    """
    student, teacher = _neighbour_probabilities(student_features), _neighbour_probabilities(teacher_features)
    return (teacher * ((teacher + 1e-7) / (student + 1e-7)).log()).mean()


def _neighbour_probabilities(features: Tensor) -> Tensor:
    unit = F.normalize(features.flatten(1), eps=1e-7)
    kernel = (unit @ unit.T + 1) / 2
    return kernel / kernel.sum(dim=1, keepdim=True)


def correlation_loss(student_features: Tensor, teacher_features: Tensor, gamma: float = 0.4) -> Tensor:
    """``||C_student - C_teacher||^2 / N^2`` with C the images' correlations under a Gaussian kernel.

    Peng et al. 2019, "Correlation Congruence for Knowledge Distillation", equation 5, with the Taylor series of order
    2 of equation 8. The series is that of unit vectors, so the features, (N, anything), are scaled to length 1 first.
    """
    return F.mse_loss(_correlations(student_features, gamma), _correlations(teacher_features, gamma))


def _correlations(features: Tensor, gamma: float) -> Tensor:
    unit = F.normalize(features.flatten(1))
    exponent = 2 * gamma * (unit @ unit.T)
    series: Tensor = 1 + exponent + exponent.square() / 2
    return series * math.exp(-2 * gamma)


def variational_loss(predicted_mean: Tensor, variance: Tensor, teacher_features: Tensor) -> Tensor:
    """How badly a Gaussian, made from the student's features, predicts the teacher's: ``-log q(teacher | student)``.

    Ahn et al. 2019, "Variational Information Distillation for Knowledge Transfer", equation 5, as a mean, without the
    constant.

    Args:
        predicted_mean: (N, ..., features), made from the student's features by a learnt network.
        variance: (features,), learnt, positive, the same for all images.
        teacher_features: (N, ..., features).
    """
    return F.gaussian_nll_loss(predicted_mean, teacher_features, variance.expand_as(predicted_mean))


def contrastive_loss(positive: Tensor, negatives: Tensor, noise: float) -> Tensor:
    """Tell the embedding of the same image from those of K others, by noise-contrastive estimation.

    Tian, Krishnan & Isola 2020, "Contrastive Representation Distillation", equations 10, 17 and 18: with a critic
    h = p / (p + noise), the mean over the batch of -log h(positive) - sum over K of log(1 - h(negative)).

    Args:
        positive: (N,), logarithms of the critic's unnormalised p for pairs of the same image.
        negatives: (N, K), the same for pairs of different images.
        noise: K / images, the odds that a pair drawn at random is one of different images.
    """
    shift = math.log(noise)
    return (F.softplus(shift - positive) + F.softplus(negatives - shift).sum(dim=1)).mean()
