"""What training runs take, and which are refused."""

from typing import Any

import pytest

from kd_cli.app import bounds
from kd_cli.app.bounds import estimate, require_modest
from kd_cli.app.limits import MAX_EPOCHS
from kd_cli.commands.job import BYTES_PER_PARAMETER, StudentConfig
from kd_cli.config import KdError, TrainingConfig
from kd_cli.data.dataset import Dataset
from kd_cli.networks.spec import parse_spec

IMAGES = 60_000


def student(architecture: str = "mlp-16", **training: Any) -> StudentConfig:
    return StudentConfig(parse_spec(architecture), training=TrainingConfig(**training))


@pytest.mark.parametrize(("architecture", "epochs"), [("mlp-16", MAX_EPOCHS), ("mlp-2048-1024", 5), ("cnn-64", 5)])
def test_a_run_within_the_bounds_is_accepted(tiny: Dataset, architecture: str, epochs: int) -> None:
    require_modest(student(architecture, epochs=epochs), tiny.info, IMAGES)


@pytest.mark.parametrize(
    ("architecture", "epochs", "bound"),
    [
        ("mlp-2048-2048", 1, "up to 5,000,000"),
        ("mlp-65536-65536-65536", 1, "up to 5,000,000"),
        ("cnn-65536", 1, "up to 5,000,000"),
        ("mlp-2048-1024", MAX_EPOCHS, "up to 15 min"),
        ("cnn-2400", 1, "up to 1,000 MB"),
        ("mlp-16", MAX_EPOCHS + 1, f"up to {MAX_EPOCHS} epochs"),
    ],
)
def test_a_run_that_would_take_too_much_is_refused(tiny: Dataset, architecture: str, epochs: int, bound: str) -> None:
    with pytest.raises(KdError, match=bound) as caught:
        require_modest(student(architecture, epochs=epochs), tiny.info, IMAGES)
    assert "--" not in str(caught.value)


def test_more_work_takes_longer(tiny: Dataset) -> None:
    base = estimate(student(epochs=2), tiny.info, IMAGES).seconds
    assert estimate(student(epochs=4), tiny.info, IMAGES).seconds == pytest.approx(2 * base)
    assert estimate(student("mlp-512", epochs=2), tiny.info, IMAGES).seconds > base
    assert estimate(student(epochs=2), tiny.info, IMAGES, teacher_macs=10**6).seconds > base


def test_a_teacher_that_sees_new_images_computes_in_every_epoch(tiny: Dataset) -> None:
    macs = 10**6
    once = estimate(student(epochs=4), tiny.info, IMAGES, macs).seconds
    anew = estimate(student(epochs=4, augment=True), tiny.info, IMAGES, macs).seconds
    assert anew - once == pytest.approx(3 * IMAGES * macs / bounds.MACS_PER_SECOND)


def test_memory_counts_what_a_convolution_keeps(tiny: Dataset) -> None:
    """400 values for each filter, before the pool leaves 16."""
    smaller, larger = (estimate(student(f"cnn-{n}"), tiny.info, 0) for n in (100, 200))
    weights = BYTES_PER_PARAMETER * (larger.parameters - smaller.parameters)
    assert larger.memory_bytes - smaller.memory_bytes - weights >= 4 * 400 * 100 * 500
