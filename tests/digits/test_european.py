"""1s with flags, drawn on plain ones."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from kd_cli.digits.european import write_european
from kd_cli.digits.mnist_format import Image28


def one(lean: int = 2, flag: int = 0) -> Image28:
    """A 1 that leans to the right by this many pixels, with a flag of this many."""
    image = Image.new("L", (28, 28))
    draw = ImageDraw.Draw(image)
    draw.line([(14 - lean, 23), (14 + lean, 4)], fill=255, width=2)
    if flag:
        draw.line([(14 + lean, 4), (14 + lean - flag, 4 + flag)], fill=255, width=2)
    return np.asarray(image)


def width(image: Image28) -> int:
    return int(np.ptp(np.nonzero(image > 100)[1])) + 1


def share_on_the_left(image: Image28) -> float:
    """Of the ink in the half below the top, what is to the left of the top."""
    first = np.nonzero(image.max(axis=1) > 100)[0][0]
    top = np.average(np.arange(28), weights=image[first])
    upper = image[first : first + 10].astype(float)
    return float(upper[:, : round(top) - 2].sum() / upper.sum())


def test_a_flag_hangs_down_to_the_left_of_the_stem() -> None:
    drawn = write_european(one()[None], 40, seed=0)
    assert np.mean([width(image) for image in drawn]) > 2 * width(one())
    assert share_on_the_left(one()) < 0.2 < 0.3 < np.mean([share_on_the_left(image) for image in drawn])


def test_equal_seeds_give_equal_images_and_others_other_ones() -> None:
    ones = np.stack([one(lean) for lean in range(-2, 5)])
    first, again, other = (write_european(ones, 5, seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_images_differ_from_each_other() -> None:
    drawn = write_european(one()[None], 20, seed=0)
    assert len({image.tobytes() for image in drawn}) == 20


@pytest.mark.parametrize("image", [one(flag=14), np.zeros((28, 28), np.uint8), np.triu(one(), 10)])
def test_a_flag_a_blank_image_and_a_short_stroke_get_no_flag(image: Image28) -> None:
    assert write_european(image[None], 3, seed=0).shape == (0, 28, 28)
