import pytest
import torch
from torch.nn import functional as F

from kd_cli.app import explain
from tests.app.conftest import Visit
from tests.app.images import html


def test_loss_and_gradient_are_those_of_the_formula() -> None:
    teacher, student = torch.randn(2, 1, 10, generator=torch.Generator().manual_seed(0)) * 3
    label = torch.tensor([4])
    total = explain.compute_terms(student, teacher, label, temperature=3.0, alpha=0.7)["sum"]
    p, q = (F.softmax(logits[0].double() / 3, dim=0) for logits in (teacher, student))
    soft = (p * (p / q).log()).sum()
    hard = -F.log_softmax(student[0].double(), dim=0)[4]
    assert total.value == pytest.approx((0.7 * 9 * soft + 0.3 * hard).item(), rel=1e-4)
    one_hot = F.one_hot(label[0], 10)
    gradient = 0.7 * 3 * (q - p) + 0.3 * (F.softmax(student[0].double(), dim=0) - one_hot)
    assert total.gradient == pytest.approx(gradient.tolist(), rel=1e-3, abs=1e-5)


def test_the_terms_add_up() -> None:
    teacher, student = torch.randn(2, 1, 3, generator=torch.Generator().manual_seed(1))
    terms = explain.compute_terms(student, teacher, torch.tensor([0]), temperature=4.0, alpha=0.9)
    assert terms["sum"].value == pytest.approx(terms["teacher"].value + terms["labels"].value)
    sums = [a + b for a, b in zip(terms["teacher"].gradient, terms["labels"].gradient, strict=True)]
    assert terms["sum"].gradient == pytest.approx(sums, abs=1e-6)


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_only_terms_with_a_weight_are_shown(visit: Visit, alpha: float) -> None:
    page = visit("explain")
    page.slider[1].set_value(alpha).run()
    shown = html(page)
    assert ("KL(teacher ‖ student)</th>" in shown) == (alpha > 0)
    assert ("cross-entropy with the label</th>" in shown) == (alpha < 1)
