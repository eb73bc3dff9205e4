"""What is drawn in 28x28 pixels is no digit where its shape says so; digits seldom look like that."""

import numpy as np
import pytest
from PIL import Image

from kd_cli.data.dataset import Dataset
from kd_cli.digits.mnist_format import Image28
from kd_cli.digits.signs import looks_like_no_digit
from tests.digits import drawings
from tests.digits.images import BLANK, draw_seven, encode, see, through_pipeline


def ring() -> Image28:
    rows, columns = np.mgrid[:28, :28]
    distance = np.hypot(rows - 14, columns - 14)
    return np.where(abs(distance - 8) < 1.2, 255, 0).astype(np.uint8)


def filled() -> Image28:
    image = np.zeros((28, 28), np.uint8)
    image[6:22, 10:20] = 255
    return image


def with_dots() -> Image28:
    image = ring()
    image[11:13, [11, 16]] = 255
    return image


def crossed() -> Image28:
    rows, columns = np.mgrid[:28, :28]
    inside = (abs(rows - 13.5) < 10) & (abs(columns - 13.5) < 10)
    return np.where(inside & (abs(abs(rows - 13.5) - abs(columns - 13.5)) < 1.5), 255, 0).astype(np.uint8)


def grid() -> Image28:
    image = np.zeros((28, 28), np.uint8)
    image[5:23:4, 5:22] = image[5:22, 5:23:4] = 255
    return image


@pytest.mark.parametrize("image", [BLANK, filled(), with_dots(), crossed(), grid()])
def test_solid_enclosed_crossed_or_meshed_ink_is_no_digit(image: Image28) -> None:
    assert looks_like_no_digit(image)


def test_a_ring_and_a_seven_may_be_digits() -> None:
    assert not looks_like_no_digit(ring())
    assert not looks_like_no_digit(through_pipeline(encode(Image.fromarray(draw_seven()))))


def test_few_digits_look_like_none(mnist: Dataset) -> None:
    assert np.mean([looks_like_no_digit(image) for image in mnist.train.images[:5000, 0].numpy()]) < 0.025


def test_most_smileys_do() -> None:
    smileys = see(drawings.draw("smiley", seed) for seed in range(20))
    assert np.mean([looks_like_no_digit(image) for image in smileys]) >= 0.9
