"""Every loss against an implementation that is not ours: torchdistill's, or the paper's sums written out."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from kd_cli.distillation import losses

mid_level = pytest.importorskip("torchdistill.losses.mid_level", reason="pip install 'kd-cli[test]'")

Loss = Callable[[Tensor, Tensor], Tensor]
SHAPES = [(1, 10), (2, 3), (7, 10), (64, 10), (33, 100)]
TEMPERATURES = [0.5, 1.0, 4.0, 20.0]
WHERE = ("x", "output", "x", "output")
EXTREME = [[1e4, -1e4, 0.0], [-1e4, 1e4, 1e4], [0.0, 0.0, 0.0]]


def published(loss: Any, student: Any, teacher: Tensor, labels: Tensor | None = None) -> Tensor:
    """Call one of torchdistill's losses, which take dictionaries of what each layer reads and gives."""
    value: Tensor = loss({"x": {"output": student}}, {"x": {"output": teacher}}, labels)
    return value


def pair(shape: tuple[int, ...], teacher_width: int | None = None, scale: float = 3.0) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(math.prod(shape))
    teacher_shape = (shape[0], teacher_width or shape[1], *shape[2:])
    return tuple(scale * torch.randn(s, generator=random, dtype=torch.float64) for s in (shape, teacher_shape))  # type: ignore[return-value]


def labels_for(logits: Tensor) -> Tensor:
    return torch.arange(len(logits)) % logits.shape[1]


def value_and_gradient(loss: Loss, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    student = student.clone().requires_grad_()
    value = loss(student, teacher)
    return value.detach(), torch.autograd.grad(value, student)[0]


def assert_same(ours: Loss, theirs: Loss, student: Tensor, teacher: Tensor) -> None:
    value, gradient = value_and_gradient(ours, student, teacher)
    expected_value, expected_gradient = value_and_gradient(theirs, student, teacher)
    torch.testing.assert_close(value, expected_value, rtol=1e-5, atol=1e-12)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-5, atol=1e-7 * float(gradient.abs().max()) + 1e-12)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("temperature", TEMPERATURES)
class TestLogitLossesEqualTheirPublishedForm:
    def test_soft_targets(self, shape: tuple[int, int], temperature: float) -> None:
        reference = mid_level.KDLoss(*WHERE, temperature, alpha=0)
        assert_same(
            lambda s, t: losses.soft_target_loss(s, t, temperature),
            lambda s, t: published(reference, s, t) * temperature**2,
            *pair(shape),
        )

    def test_standardised_soft_targets(self, shape: tuple[int, int], temperature: float) -> None:
        reference = mid_level.LogitStdKDLoss(*WHERE, temperature, alpha=0)
        assert_same(
            lambda s, t: losses.standardised_soft_target_loss(s, t, temperature),
            lambda s, t: published(reference, s, t) * temperature**2,
            *pair(shape),
        )

    @pytest.mark.parametrize(("term", "weights"), [(0, (1.0, 0.0)), (1, (0.0, 1.0))], ids=["between", "within"])
    def test_relations(
        self, shape: tuple[int, int], temperature: float, term: int, weights: tuple[float, float]
    ) -> None:
        reference = mid_level.DISTLoss(*WHERE, beta=weights[0], gamma=weights[1], tau=temperature)
        assert_same(
            lambda s, t: losses.relation_losses(s, t, temperature)[term],
            lambda s, t: published(reference, s, t),
            *pair(shape),
        )

    @pytest.mark.parametrize("term", [0, 1], ids=["target class", "other classes"])
    def test_decoupled(self, shape: tuple[int, int], temperature: float, term: int) -> None:
        student, teacher = pair(shape)
        labels = labels_for(student)
        assert_same(
            lambda s, t: losses.decoupled_losses(s, t, labels, temperature)[term],
            lambda s, t: decoupled_by_the_paper(s, t, labels, temperature)[term],
            student,
            teacher,
        )

    def test_decoupled_parts_make_up_the_soft_target_loss(self, shape: tuple[int, int], temperature: float) -> None:
        """Equation 5 of the paper, image by image: KD = TCKD + (1 - p_teacher(label)) * NCKD."""
        student, teacher = pair(shape)
        for s, t, label in zip(student[:, None], teacher[:, None], labels_for(student)[:, None], strict=True):
            rest = 1 - (t / temperature).softmax(dim=1)[0, int(label)].item()
            target, others = losses.decoupled_losses(s, t, label, temperature)
            torch.testing.assert_close(target + rest * others, losses.soft_target_loss(s, t, temperature))


def decoupled_by_the_paper(s: Tensor, t: Tensor, labels: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Zhao et al. 2022, section 3.1, in probabilities, one image after the other."""
    target, others = [], []
    for logits_s, logits_t, label in zip(s, t, labels.tolist(), strict=True):
        p_s, p_t = (logits_s / temperature).exp(), (logits_t / temperature).exp()
        p_s, p_t = p_s / p_s.sum(), p_t / p_t.sum()
        rest = [i for i in range(len(p_s)) if i != label]
        b_s, b_t = (torch.stack([p[label], p[rest].sum()]) for p in (p_s, p_t))
        q_s, q_t = (p[rest] / p[rest].sum() for p in (p_s, p_t))
        target.append((b_t * (b_t / b_s).log()).sum())
        others.append((q_t * (q_t / q_s).log()).sum())
    return torch.stack(target).mean() * temperature**2, torch.stack(others).mean() * temperature**2


@pytest.mark.parametrize("shape", SHAPES)
def test_logit_matching_is_half_the_squared_distance(shape: tuple[int, int]) -> None:
    assert_same(
        losses.logit_matching_loss,
        lambda s, t: torch.stack([(a - b).pow(2).sum() / 2 for a, b in zip(s, t, strict=True)]).mean(),
        *pair(shape),
    )


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_the_gradient_of_soft_targets_is_the_difference_of_probabilities(temperature: float) -> None:
    """Hinton et al. 2015, equation 2, times T^2 and averaged: T / N * (softmax(z / T) - softmax(v / T))."""
    student, teacher = pair((7, 10))
    _, gradient = value_and_gradient(lambda s, t: losses.soft_target_loss(s, t, temperature), student, teacher)
    difference = (student / temperature).softmax(dim=1) - (teacher / temperature).softmax(dim=1)
    torch.testing.assert_close(gradient, temperature / 7 * difference)


def test_gradients_at_high_temperature_approach_logit_matching() -> None:
    """Hinton et al. 2015, equation 4: for T far above the logits, T^2 * dKL/dz = (z - v) / classes, both centred."""
    z, v = pair((4, 10), scale=1.0)
    _, gradient = value_and_gradient(lambda s, t: losses.soft_target_loss(s, t, 1e4), z, v)
    centred = (z - z.mean(1, keepdim=True)) - (v - v.mean(1, keepdim=True))
    torch.testing.assert_close(gradient, centred / 10 / 4, rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize("shape", [(1, 16), (2, 5), (9, 16), (64, 128)])
class TestFeatureLossesEqualTheirPublishedForm:
    def test_hint(self, shape: tuple[int, int]) -> None:
        assert_same(losses.hint_loss, lambda s, t: (s - t).pow(2).sum() / s.numel(), *pair(shape))

    def test_similarities(self, shape: tuple[int, int]) -> None:
        """Written out from the paper: torchdistill scales the rows by their sum, not by their length (equation 2)."""

        def rows(features: Tensor) -> Tensor:
            return torch.stack([row / row.pow(2).sum().sqrt() for row in torch.einsum("if,jf->ij", features, features)])

        def theirs(s: Tensor, t: Tensor) -> Tensor:
            return (rows(s) - rows(t)).pow(2).sum() / len(s) ** 2

        assert_same(losses.similarity_loss, theirs, *pair(shape, 24))

    @pytest.mark.parametrize(("term", "weights"), [(0, (1.0, 0.0)), (1, (0.0, 1.0))], ids=["distance", "angle"])
    def test_relational(self, shape: tuple[int, int], term: int, weights: tuple[float, float]) -> None:
        if shape[0] == 1:
            pytest.skip("the published form is not a number without pairs")
        reference = mid_level.RKDLoss("x", "x", *weights, "mean")
        assert_same(
            lambda s, t: losses.relational_losses(s, t)[term],
            lambda s, t: published(reference, s, t),
            *pair(shape, 24),
        )

    def test_probability_transfer(self, shape: tuple[int, int]) -> None:
        reference = mid_level.PKTLoss(*WHERE)
        assert_same(losses.probability_transfer_loss, lambda s, t: published(reference, s, t), *pair(shape, 24))

    def test_correlations(self, shape: tuple[int, int]) -> None:
        """torchdistill takes the norm where the paper takes its square, and leaves scaling to unit length to others."""
        kernel = {"type": "gaussian", "gamma": 0.4, "max_p": 2}
        reference = mid_level.CCKDLoss("x", "x", kernel, "sum")

        def theirs(s: Tensor, t: Tensor) -> Tensor:
            return published(reference, F.normalize(s), F.normalize(t)) ** 2 / len(s) ** 2

        assert_same(losses.correlation_loss, theirs, *pair(shape, 24))

    def test_variational(self, shape: tuple[int, int]) -> None:
        reference = mid_level.VIDLoss({"p": {key: {"io": "output", "path": "x"} for key in ("student", "teacher")}})
        variance = torch.linspace(0.1, 5, shape[1], dtype=torch.float64)
        assert_same(
            lambda s, t: losses.variational_loss(s, variance, t),
            lambda s, t: published(reference, (s, variance), t),
            *pair(shape),
        )

    def test_variational_with_respect_to_the_variance(self, shape: tuple[int, int]) -> None:
        reference = mid_level.VIDLoss({"p": {key: {"io": "output", "path": "x"} for key in ("student", "teacher")}})
        mean, target = pair(shape)
        assert_same(
            lambda v, t: losses.variational_loss(mean, v, t),
            lambda v, t: published(reference, (mean, v), t),
            torch.linspace(0.1, 5, shape[1], dtype=torch.float64),
            target,
        )


@pytest.mark.parametrize("shape", [(1, 8, 4, 4), (5, 3, 2, 6), (64, 8, 4, 4)])
def test_attention_equals_its_published_form(shape: tuple[int, int, int, int]) -> None:
    ends = {key: {"io": "output", "path": "x"} for key in ("student", "teacher")}
    reference = mid_level.ATLoss({"p": ends}, mode="code")
    assert_same(losses.attention_loss, lambda s, t: published(reference, s, t), *pair(shape, 32))


@pytest.mark.parametrize(("size", "negatives"), [(1, 8), (7, 64), (64, 16)])
def test_contrastive_equals_its_published_form(size: int, negatives: int) -> None:
    scores, _ = pair((size, 1 + negatives))
    images = 1024
    noise = negatives / images

    def theirs(s: Tensor, _: Tensor) -> Tensor:
        part = type("Critic", (), {"num_samples": images, "eps": 1e-12})
        value: Tensor = mid_level.CRDLoss.compute_contrast_loss(part, s.exp().unsqueeze(2))
        return value.squeeze()

    assert_same(lambda s, _: losses.contrastive_loss(s[:, 0], s[:, 1:], noise), theirs, scores, scores)


LOGIT_LOSSES: dict[str, Loss] = {
    "soft targets": lambda s, t: losses.soft_target_loss(s, t, 4.0),
    "logit matching": losses.logit_matching_loss,
    "target class": lambda s, t: losses.decoupled_losses(s, t, labels_for(s), 4.0)[0],
    "other classes": lambda s, t: losses.decoupled_losses(s, t, labels_for(s), 4.0)[1],
    "between classes": lambda s, t: losses.relation_losses(s, t, 4.0)[0],
    "within classes": lambda s, t: losses.relation_losses(s, t, 4.0)[1],
    "standardised": lambda s, t: losses.standardised_soft_target_loss(s, t, 2.0),
}
FEATURE_LOSSES: dict[str, Loss] = {
    "hint": losses.hint_loss,
    "similarity": losses.similarity_loss,
    "distance": lambda s, t: losses.relational_losses(s, t)[0],
    "angle": lambda s, t: losses.relational_losses(s, t)[1],
    "probability transfer": losses.probability_transfer_loss,
    "correlation": losses.correlation_loss,
    "variational": lambda s, t: losses.variational_loss(s, s.new_ones(s.shape[1]), t),
    "contrastive": lambda s, _: losses.contrastive_loss(s[:, 0], s[:, 1:], 0.3),
    "attention": lambda s, t: losses.attention_loss(s[:, :, None, None], t[:, :, None, None]),
}
LOSSES = LOGIT_LOSSES | FEATURE_LOSSES


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("rows", [slice(0, 3), slice(0, 1), slice(2, 3)], ids=["batch", "one", "one of equal logits"])
@pytest.mark.parametrize("sign", [1, -1], ids=["equal", "opposite"])
def test_extreme_values_stay_finite(name: str, rows: slice, sign: int) -> None:
    student = torch.tensor(EXTREME)[rows]
    value, gradient = value_and_gradient(LOSSES[name], student, sign * student)
    assert value.isfinite()
    assert gradient.isfinite().all()


@pytest.mark.parametrize("name", LOSSES)
def test_the_gradient_is_that_of_the_value(name: str) -> None:
    """By finite differences: in particular, no operation on the way cuts the gradient off."""
    student, teacher = pair((5, 6), scale=1.0)
    assert torch.autograd.gradcheck(lambda s: LOSSES[name](s, teacher), [student.requires_grad_()])


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "contrastive"])
def test_a_student_equal_to_its_teacher_is_at_a_minimum(name: str) -> None:
    student = pair((7, 10))[0]
    _, gradient = value_and_gradient(LOSSES[name], student, student)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["distance", "angle"])
def test_a_batch_of_one_has_no_relations_to_learn(name: str) -> None:
    value, gradient = value_and_gradient(FEATURE_LOSSES[name], *pair((1, 10)))
    assert value == 0
    assert not gradient.any()


def test_a_class_in_a_batch_of_one_correlates_with_nothing() -> None:
    value, gradient = value_and_gradient(LOGIT_LOSSES["within classes"], *pair((1, 10)))
    assert value == 4.0**2
    assert not gradient.any()


@pytest.mark.parametrize("classes", [3, 7, 10, 100])
def test_equal_probabilities_correlate_with_nothing(classes: int) -> None:
    """In single precision their mean is not always exactly one of them; what is left must not count as variance."""
    between, _ = losses.relation_losses(torch.zeros(4, classes), torch.zeros(4, classes), 4.0)
    assert between.item() == pytest.approx(4.0**2, rel=0.01)


@pytest.mark.parametrize("name", LOGIT_LOSSES)
def test_single_precision_is_precise_enough(name: str) -> None:
    student, teacher = pair((64, 10))
    exact_value, exact_gradient = value_and_gradient(LOGIT_LOSSES[name], student, teacher)
    value, gradient = value_and_gradient(LOGIT_LOSSES[name], student.float(), teacher.float())
    torch.testing.assert_close(value.double(), exact_value, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradient.double(), exact_gradient, rtol=1e-4, atol=1e-7 * float(exact_gradient.norm()))
