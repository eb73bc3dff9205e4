"""A temperature that SciPy would find, too."""

import pytest
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn import functional as F
from torchmetrics.functional.classification import multiclass_calibration_error

from kd_cli.evaluation.confidence import fit_confidence
from tests.other_device import to_device


@pytest.fixture
def labels() -> Tensor:
    return torch.arange(5000) % 10


def logits_of(labels: Tensor, sureness: float) -> Tensor:
    """Logits whose probabilities are right, times ``sureness``."""
    random = torch.Generator().manual_seed(0)
    noise = torch.randn(len(labels), 10, generator=random)
    return sureness * (2 * noise + 4 * F.one_hot(labels, 10))


@pytest.mark.parametrize("sureness", [0.3, 1.0, 3.0])
def test_the_temperature_has_the_least_nll(labels: Tensor, sureness: float) -> None:
    logits = logits_of(labels, sureness)
    best = minimize_scalar(lambda t: F.cross_entropy(logits.double() / t, labels).item(), bounds=(0.05, 20))
    assert fit_confidence(logits, labels).temperature == pytest.approx(best.x, rel=1e-3)


@pytest.mark.parametrize("sureness", [0.3, 3.0])
def test_confidences_are_better_calibrated_on_other_images(labels: Tensor, sureness: float) -> None:
    logits = logits_of(labels, sureness)
    temperature = fit_confidence(logits[::2], labels[::2]).temperature
    before, after = (
        multiclass_calibration_error(scaled.softmax(1), labels[1::2], 10).item()
        for scaled in (logits[1::2], logits[1::2] / temperature)
    )
    assert after < before / 2


def test_images_that_the_network_learnt_do_not_change_its_confidences(labels: Tensor) -> None:
    assert fit_confidence(logits_of(labels, 3), labels, seen_before=True).temperature == 1


@pytest.mark.parametrize("seen_before", [False, True])
def test_fitting_needs_no_device_with_64_bits(labels: Tensor, seen_before: bool) -> None:
    logits = logits_of(labels, 3)
    fitted = fit_confidence(to_device(logits), to_device(labels), seen_before)
    assert fitted == fit_confidence(logits, labels, seen_before)


@pytest.mark.parametrize("logits", [torch.zeros(4, 3), 1e30 * torch.eye(3)[[0, 1, 2, 0]]])
def test_logits_that_say_nothing_or_everything_have_a_temperature(logits: Tensor) -> None:
    assert 0.04 < fit_confidence(logits, torch.tensor([0, 1, 2, 1])).temperature < 21
