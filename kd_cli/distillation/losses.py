"""Distillation losses: pure functions of tensors, each with the paper and the equation that it follows.

In all of them N is the batch, gradients flow into the student's tensor (and into projections made from it), and the
result is a scalar. Every loss is finite, and so are its gradients, for a batch of one and for logits of +-1e4. Default
weights are not here but in `methods`.

The arithmetic of the losses of logits is in `graded`, which computes their gradients beside their values. No second
derivatives, therefore.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from kd_cli import graded
from kd_cli.graded import connect, pair


def soft_target_loss(student_logits: Tensor, teacher_logits: Tensor, temperature: float, weight: float = 1.0) -> Tensor:
    """``weight * T^2 * KL(softmax(teacher / T) || softmax(student / T))``, averaged over the batch.

    Hinton, Vinyals & Dean 2015, "Distilling the Knowledge in a Neural Network", section 2. The factor ``T^2`` keeps the
    size of the gradients independent of the temperature (equation 4), so that `alpha` means the same at every T.

    Args:
        student_logits: (N, classes); gradients flow into these.
        teacher_logits: (N, classes).
        temperature: T > 0; higher is softer.
        weight: a factor that costs no operation of its own.

    Returns:
        A scalar, zero where the two distributions are equal.
    """
    return connect(student_logits, graded.soft_targets(pair(student_logits, teacher_logits), temperature, weight))


def logit_matching_loss(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """``1/2 * ||student - teacher||^2``, averaged over the batch; logits are (N, classes).

    Ba & Caruana 2014, "Do Deep Nets Really Need to be Deep?", equation 1.
    """
    return connect(student_logits, graded.matching(pair(student_logits, teacher_logits), 1.0))


def decoupled_loss(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, temperature: float, target: float, others: float
) -> Tensor:
    """The soft-target loss in two parts: how probable the labelled class is, and how the others share the rest.

    Zhao et al. 2022, "Decoupled Knowledge Distillation", equations 6 and 7: target-class distillation (TCKD) is the KL
    between the binary distributions b = (labelled class, any other), non-target-class distillation (NCKD) that between
    the distributions q over the other classes. Both carry T^2. With weight 1 for the first, and the teacher's share of
    the other classes for the second, this is `soft_target_loss` again.

    Args:
        student_logits: (N, classes).
        teacher_logits: (N, classes).
        labels: (N,), int64.
        temperature: T > 0.
        target: weight of TCKD (alpha in the paper).
        others: weight of NCKD (beta in the paper).
    """
    both = pair(student_logits, teacher_logits)
    return connect(student_logits, graded.decoupled(both, labels, temperature, target, others))


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
    both = pair(student_logits, teacher_logits)
    return connect(student_logits, graded.relations(both, temperature, between, within))


def standardised_soft_target_loss(
    student_logits: Tensor, teacher_logits: Tensor, temperature: float, weight: float = 1.0
) -> Tensor:
    """`soft_target_loss` of logits brought to mean 0 and standard deviation 1, picture by picture; (N, classes) each.

    Sun et al. 2024, "Logit Standardization in Knowledge Distillation", algorithm 1: the student need only match the
    order and the proportions of the teacher's logits, not their size.
    """
    both = pair(student_logits, teacher_logits)
    return connect(student_logits, graded.standardised_soft_targets(both, temperature, weight))


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
