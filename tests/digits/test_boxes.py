"""Boxes are read as people read: line by line from the top, each line from the left."""

import random

import pytest

from kd_cli.digits.boxes import Box, in_reading_order


def written(*lines: list[tuple[float, float]], size: float = 20) -> list[Box]:
    """Boxes in the order of reading, by their left upper corners."""
    return [Box(left, top, left + 0.6 * size, top + size) for line in lines for left, top in line]


@pytest.mark.parametrize(
    "boxes",
    [
        pytest.param(written([(0, 0)]), id="one"),
        pytest.param(written([(0, 5), (20, 0), (45, 8)]), id="a row"),
        pytest.param(written([(5, 0)], [(0, 25)], [(3, 50)]), id="a column"),
        pytest.param(written([(0, 0), (30, 4), (60, 0)], [(0, 30), (30, 27), (60, 33)]), id="a grid"),
        pytest.param(
            written([(30 * i, 4 * i) for i in range(10)], [(30 * i, 30 + 4 * i) for i in range(4)]), id="sloping down"
        ),
        pytest.param(
            written([(30 * i, 40 - 4 * i) for i in range(10)], [(30 * i, 70 - 4 * i) for i in range(6, 10)]),
            id="sloping up, the second line to the right",
        ),
        pytest.param([Box(0, 0, 20, 40), Box(25, 2, 40, 16), Box(45, 0, 60, 40)], id="a small one"),
    ],
)
def test_lines_are_read_from_the_top_and_each_from_the_left(boxes: list[Box]) -> None:
    places = list(range(len(boxes)))
    for seed in range(5):
        random.Random(seed).shuffle(places)
        order = in_reading_order([boxes[place] for place in places])
        assert [places[place] for place in order] == list(range(len(boxes)))


def test_a_box_in_a_larger_image_is_of_whole_pixels_and_loses_nothing() -> None:
    assert Box(1, 2, 3, 4.5).scaled(2.5, 3).in_whole_pixels() == (2, 6, 8, 14)
