"""Outputs that a network has for what it learnt, and outputs that it has not."""

import numpy as np
import pytest

from kd_cli.evaluation.typical import MOST_CLASSES, PER_CLASS, SHARE, Logits, compute_likeness, find_typical
from kd_cli.networks.metadata import Typical

CLASSES = 10
LABELS = np.arange(2000) % CLASSES


def make_logits(seed: int) -> Logits:
    """Of images of which each looks a little like one other class, too."""
    random = np.random.default_rng(seed)
    rows = np.arange(len(LABELS))
    logits = random.normal(0, 1, (len(LABELS), CLASSES))
    logits[rows, LABELS] += 12
    logits[rows, (LABELS + 1) % CLASSES] += 6
    return logits


@pytest.fixture(scope="module")
def typical() -> Typical:
    found = find_typical(make_logits(0), LABELS)
    assert found is not None
    return found


def test_each_class_has_a_few_directions_of_length_one(typical: Typical) -> None:
    directions = np.array(typical.directions)
    assert directions.shape == (PER_CLASS * CLASSES, CLASSES)
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1, atol=1e-3)
    np.testing.assert_array_equal(np.bincount(directions.argmax(axis=1)), PER_CLASS)


def test_few_images_of_what_was_learnt_are_far_from_them(typical: Typical) -> None:
    marked = [np.mean(compute_likeness(make_logits(seed), typical) < typical.least) for seed in (0, 1)]
    assert marked[0] == pytest.approx(SHARE, abs=1 / len(LABELS))
    assert marked[1] < 3 * SHARE


def test_outputs_that_no_class_has_are_far_however_sure_they_are(typical: Typical) -> None:
    strange = np.roll(make_logits(1), 4, axis=1) + make_logits(2)  # two classes that are never seen together
    assert np.mean(compute_likeness(3 * strange, typical) < typical.least) > 0.95


def test_only_the_direction_counts(typical: Typical) -> None:
    logits = make_logits(3)
    np.testing.assert_allclose(compute_likeness(5 * logits + 2, typical), compute_likeness(logits, typical))


def test_equal_logits_give_equal_directions(typical: Typical) -> None:
    assert find_typical(make_logits(0), LABELS) == typical


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("images", [1, 3, 12])
def test_few_images_are_enough(images: int) -> None:
    logits = make_logits(0)[:images].repeat(2, axis=0)  # some twice
    found = find_typical(logits, LABELS[:images].repeat(2))
    assert found is not None
    assert (compute_likeness(logits, found) >= found.least).all()


def test_too_many_classes_and_logits_that_say_nothing_have_none() -> None:
    assert find_typical(np.eye(MOST_CLASSES + 1), np.arange(MOST_CLASSES + 1)) is None
    assert find_typical(np.zeros((20, 3)), np.arange(20) % 3) is None
