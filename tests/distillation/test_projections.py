"""Losses with layers of their own: what they start from, what they learn, and how they go on after a stop."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kd_cli.distillation import losses
from kd_cli.distillation.projections import Contrast, FeatureSizes, Hint, Variational

SIZES = FeatureSizes(student=(6,), teacher=(9,), images=40, seed=3)


@pytest.fixture
def features() -> tuple[Tensor, Tensor, Tensor]:
    """Student's features, teacher's features, and the images' rows."""
    random = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(12, width, generator=random) for width in (6, 9))
    return student, teacher, torch.arange(12) * 3


@pytest.fixture(params=[Hint, Variational, Contrast])
def loss(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(0)
    module: nn.Module = request.param(SIZES)
    return module


def test_all_layers_learn_and_so_does_the_student(loss: nn.Module, features: tuple[Tensor, Tensor, Tensor]) -> None:
    student, teacher, index = features
    loss(student.requires_grad_(), teacher, index).backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in loss.parameters())
    assert student.grad is not None
    assert student.grad.any()


def test_the_teacher_does_not_learn(loss: nn.Module, features: tuple[Tensor, Tensor, Tensor]) -> None:
    student, teacher, index = features
    assert not any(buffer.requires_grad for buffer in loss.buffers())
    loss(student, teacher, index).backward()
    assert teacher.grad is None


def test_a_batch_of_one_image_is_finite(loss: nn.Module, features: tuple[Tensor, Tensor, Tensor]) -> None:
    loss(*(each[:1] for each in features)).backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in loss.parameters())


def test_a_state_restored_goes_on_to_the_bit(loss: nn.Module, features: tuple[Tensor, Tensor, Tensor]) -> None:
    loss(*features)
    kept = {name: value.clone() if isinstance(value, Tensor) else value for name, value in loss.state_dict().items()}
    expected = [loss(*features).item() for _ in range(3)]
    torch.manual_seed(99)
    fresh = type(loss)(SIZES)
    fresh.load_state_dict(kept)
    assert [fresh(*features).item() for _ in range(3)] == expected


def test_a_hint_is_the_mean_squared_difference_after_a_linear_layer(features: tuple[Tensor, Tensor, Tensor]) -> None:
    student, teacher, index = features
    hint = Hint(SIZES)
    with torch.no_grad():
        hint.regressor.weight.copy_(torch.eye(9, 6))
        hint.regressor.bias.fill_(2.0)
    expected = (F.pad(student, [0, 3]) + 2.0 - teacher).square().mean()
    torch.testing.assert_close(hint(student, teacher, index), expected)


def test_the_variance_of_the_teachers_features_starts_at_5(features: tuple[Tensor, Tensor, Tensor]) -> None:
    student, teacher, index = features
    loss = Variational(SIZES)
    expected = losses.variational_loss(loss.regressor(student), torch.full((9,), 5.0), teacher)
    torch.testing.assert_close(loss(student, teacher, index), expected)


class TestContrast:
    def test_learns_to_find_the_teachers_embedding_of_the_same_image(
        self, features: tuple[Tensor, Tensor, Tensor]
    ) -> None:
        student, teacher, index = features
        torch.manual_seed(0)
        contrast = Contrast(SIZES)

        def found() -> float:
            similarity = F.normalize(contrast.embed_student(student)) @ contrast.teacher_bank.T
            return (similarity.argmax(dim=1) == index).float().mean().item()

        before = found()
        optimiser = torch.optim.Adam(contrast.parameters(), lr=0.01)
        for _ in range(100):
            optimiser.zero_grad()
            contrast(student, teacher, index).backward()
            optimiser.step()
        assert before < 0.5
        assert found() == 1

    def test_the_seed_alone_decides_the_negatives(self, features: tuple[Tensor, Tensor, Tensor]) -> None:
        def first_value(seed: int, global_seed: int) -> float:
            torch.manual_seed(0)
            contrast = Contrast(FeatureSizes((6,), (9,), images=40, seed=seed))
            torch.manual_seed(global_seed)
            value: float = contrast(*features).item()
            return value

        assert first_value(3, global_seed=1) == first_value(3, global_seed=2)
        assert first_value(3, global_seed=1) != first_value(4, global_seed=1)

    def test_the_banks_move_halfway_to_the_new_embeddings_of_the_batch(
        self, features: tuple[Tensor, Tensor, Tensor]
    ) -> None:
        student, teacher, index = features
        contrast = Contrast(SIZES)
        before = contrast.student_bank.clone()
        contrast(student, teacher, index)
        embedding = F.normalize(contrast.embed_student(student)).detach()
        expected = before.index_copy(0, index, F.normalize((before[index] + embedding) / 2))
        torch.testing.assert_close(contrast.student_bank, expected)

    def test_the_first_batch_sets_the_normaliser_for_all_later_ones(
        self, features: tuple[Tensor, Tensor, Tensor]
    ) -> None:
        """Z is the number of images times the mean of exp(similarity / temperature)."""
        student, teacher, index = features
        contrast = Contrast(SIZES)
        bank = contrast.teacher_bank.clone()
        chosen = torch.randint(40, (Contrast.NEGATIVES,), generator=torch.Generator().manual_seed(SIZES.seed))
        embedding = F.normalize(contrast.embed_student(student)).detach()
        scores = torch.cat([(embedding * bank[index]).sum(1, keepdim=True), embedding @ bank[chosen].T], 1) / 0.07
        contrast(student, teacher, index)
        kept = contrast.log_normaliser.clone()
        assert kept[0].item() == pytest.approx(math.log(40 * scores.double().exp().mean().item()), rel=1e-4)
        contrast(student.flip(0), teacher, index)
        assert torch.equal(contrast.log_normaliser, kept)
