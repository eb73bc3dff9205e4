"""What the networks saw, in files that can be told from a user's own."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from kd_cli.digits import saved
from kd_cli.digits.mnist_format import like_mnist
from kd_cli.report import benchmark, plots
from tests.digits.images import draw_seven
from tests.report.results import benchmark_result


def seven() -> NDArray[np.uint8]:
    return like_mnist((draw_seven() / 255).astype(np.float32))[np.newaxis]


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_the_image_is_kept_to_the_pixel(tmp_path: Path, channels: int) -> None:
    pixels = np.concatenate([seven() // (channel + 1) for channel in range(channels)])[:, :24]
    (tmp_path / "7.png").write_bytes(saved.encode(pixels))
    with Image.open(tmp_path / "7.png") as image:
        np.testing.assert_array_equal(np.atleast_3d(image), np.moveaxis(pixels, 0, -1))


def test_it_is_known_again(tmp_path: Path) -> None:
    (tmp_path / "7.png").write_bytes(saved.encode(seven()))
    assert saved.is_ours(tmp_path / "7.png")


def test_an_image_of_another_program_is_not_taken_for_ours(tmp_path: Path) -> None:
    Image.fromarray(seven()[0]).save(tmp_path / "7.png")
    (tmp_path / "text").write_text("Software kd image")
    for path in (tmp_path / "7.png", tmp_path / "text", tmp_path / "none.png", tmp_path):
        assert not saved.is_ours(path)


def test_a_plot_is_another_kind_of_file(tmp_path: Path) -> None:
    plots.save(tmp_path / "plot.png", benchmark.draw_benchmark, benchmark_result())
    (tmp_path / "7.png").write_bytes(saved.encode(seven()))
    assert plots.is_our_plot(tmp_path / "plot.png")
    assert not saved.is_ours(tmp_path / "plot.png")
    assert not plots.is_our_plot(tmp_path / "7.png")
