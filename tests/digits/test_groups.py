"""Pieces of ink are told to be one digit or several."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from kd_cli.digits.groups import find_gaps, group

Rectangle = tuple[int, int, int, int]
"""Left, top, right, bottom."""


def draw(*pieces: Rectangle) -> NDArray[np.int32]:
    """Pieces by their numbers, from 1."""
    labels = np.zeros((120, 200), np.int32)
    for number, (left, top, right, bottom) in enumerate(pieces, start=1):
        labels[top:bottom, left:right] = number
    return labels


def count_ink(labels: NDArray[np.int32]) -> NDArray[np.float64]:
    return np.asarray(np.bincount(labels.ravel(), labels.ravel() > 0), np.float64)


DIGIT: Rectangle = (20, 20, 45, 70)
NEXT: Rectangle = (60, 25, 70, 70)


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        pytest.param([DIGIT, NEXT], [[1], [2]], id="two side by side"),
        pytest.param([DIGIT, (47, 22, 72, 68)], [[1], [2]], id="two side by side, and close"),
        pytest.param([DIGIT, (20, 85, 50, 118)], [[1], [2]], id="two below each other"),
        pytest.param([DIGIT, NEXT, (20, 85, 50, 118), (60, 85, 70, 118)], [[1], [2], [3], [4]], id="a grid"),
        pytest.param([DIGIT, (47, 14, 70, 24), (90, 20, 110, 70)], [[1, 2], [3]], id="the bar of a 5"),
        pytest.param([DIGIT, (80, 20, 110, 44), (80, 50, 110, 70)], [[1], [2, 3]], id="the halves of a 3"),
        pytest.param([DIGIT, (52, 43, 70, 48), (78, 20, 100, 70)], [[1], [3]], id="a dash between two"),
        pytest.param([DIGIT, NEXT, (10, 75, 110, 80)], [[1], [2]], id="a line below them"),
        pytest.param([DIGIT, NEXT, (0, 75, 190, 90)], [[1], [2]], id="a line below them with more ink"),
        pytest.param([DIGIT, NEXT, (48, 30, 51, 33)], [[1], [2]], id="a speck"),
    ],
)
def test_pieces_are_grouped(pieces: list[Rectangle], expected: list[list[int]]) -> None:
    labels = draw(*pieces)
    assert [sorted(parts) for parts in group(labels, count_ink(labels))] == expected


@pytest.mark.parametrize(
    "other",
    [
        pytest.param((50, 14, 90, 24), id="the bar of a 5"),
        pytest.param((20, 74, 45, 100), id="a piece below it, and close"),
        pytest.param((4, 72, 22, 100), id="a piece that goes on with its stroke"),
        pytest.param((100, 30, 103, 40), id="a speck"),
        pytest.param((100, 30, 110, 50), id="something small"),
    ],
)
def test_a_digit_in_pieces_is_one(other: Rectangle) -> None:
    labels = draw(DIGIT, other)
    assert len(group(labels, count_ink(labels))) == 1


def test_what_has_soft_edges_is_a_shadow() -> None:
    labels = draw(DIGIT, NEXT)
    mass = count_ink(labels) * [1, 1, 0.2]
    assert len(group(labels, mass)) == 1


def test_a_gap_is_the_shortest_way_between_two_pieces_that_have_none_between_them() -> None:
    labels = draw((10, 10, 20, 60), (25, 10, 30, 60), (32, 61, 40, 70))
    assert [(one, other) for one, other, _ in find_gaps(labels)][:2] == [(2, 3), (1, 2)]


@pytest.mark.parametrize("seed", range(5))
def test_a_gap_is_as_wide_as_it_is_where_it_is_narrowest(seed: int) -> None:
    left, right = (np.random.default_rng(seed).random((2, 40, 20)) > 0.97).astype(np.int32)
    labels = np.concatenate([left, np.zeros((40, 10), np.int32), 2 * right], axis=1)
    ((one, other, gap),) = find_gaps(labels)
    assert (one, other) == (1, 2)
    assert gap == pytest.approx(ndimage.distance_transform_edt(labels != 1)[labels == 2].min(), abs=1.5)
