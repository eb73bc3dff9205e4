"""Image files -> arrays of one shape: every mode, upright, and with a clear idea of what cannot be read."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tqdm import tqdm

from kd_cli.data.images import MOST_PIXELS, Survey, decode, read_image, survey_sample
from tests.data.images import noise, save


def survey(*paths: Path) -> Survey:
    return survey_sample([str(path) for path in paths])


@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_are_those_of_the_file(tmp_path: Path, channels: int) -> None:
    pixels = noise(0, channels=channels)
    found = read_image(save(tmp_path / "1.png", pixels), (channels, 24, 40))
    expected = pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)
    np.testing.assert_array_equal(found, expected)


def test_photograph_is_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    pixels = noise(0)
    path = save(tmp_path / "1.png", pixels, exif=exif)
    assert survey(path).shape(None) == (3, 40, 24)
    np.testing.assert_array_equal(read_image(path, (3, 40, 24)), np.rot90(pixels, -1).transpose(2, 0, 1))


@pytest.mark.parametrize(("mode", "colour"), [("L", False), ("1", False), ("LA", False), ("P", True), ("RGBA", True)])
def test_mode_says_whether_an_image_has_colour(tmp_path: Path, mode: str, colour: bool) -> None:
    assert survey(save(tmp_path / "1.png", Image.fromarray(noise(0)).convert(mode))).colour is colour


def test_all_images_are_grey_only_where_each_is(tmp_path: Path) -> None:
    grey, colour = save(tmp_path / "1.png", noise(0, channels=1)), save(tmp_path / "2.png", noise(1))
    assert survey(grey).shape(None)[0] == 1
    assert survey(grey, colour).shape(None)[0] == 3


def test_grey_image_among_colour_has_three_equal_channels(tmp_path: Path) -> None:
    found = read_image(save(tmp_path / "1.png", noise(0, channels=1)), (3, 24, 40))
    assert (found == found[0]).all()


def test_sixteen_bits_become_the_upper_eight(tmp_path: Path) -> None:
    path = save(tmp_path / "1.png", Image.fromarray(np.array([[0, 32768, 65535]], np.uint16)))
    assert read_image(path, (1, 1, 3)).tolist() == [[[0, 127, 255]]]


@pytest.mark.parametrize(("top", "expected"), [(1.0, [0, 127, 255]), (255.0, [0, 127, 255])])
def test_floats_are_fractions_or_bytes(tmp_path: Path, top: float, expected: list[int]) -> None:
    path = save(tmp_path / "1.tif", Image.fromarray(np.array([[0, top / 2, top]], np.float32)))
    assert read_image(path, (1, 1, 3)).tolist() == [[expected]]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_shows_white(tmp_path: Path, mode: str) -> None:
    image = Image.new("RGBA", (2, 2), (255, 0, 0, 0)).convert(mode)
    options = {"transparency": image.getpixel((0, 0))} if mode == "P" else {}
    found = read_image(save(tmp_path / "1.png", image, **options), (3, 2, 2))
    assert (found == 255).all()


def test_palette_gives_its_colours(tmp_path: Path) -> None:
    path = save(tmp_path / "1.gif", Image.new("RGB", (2, 2), (255, 0, 0)).convert("P"))
    assert read_image(path, (3, 2, 2))[:, 0, 0].tolist() == [255, 0, 0]


def test_other_sizes_are_scaled_to_cover_and_the_middle_is_cut_out(tmp_path: Path) -> None:
    """Proportions stay: a square in the middle of a wide image is a square in the middle."""
    pixels = np.zeros((40, 120), np.uint8)
    pixels[10:30, 50:70] = 255
    found = read_image(save(tmp_path / "1.png", pixels), (1, 20, 20))[0]
    assert (found[7:13, 7:13] > 250).all()
    np.testing.assert_allclose(found.astype(int), found.T.astype(int), atol=5)


def test_large_photograph_is_scaled_like_a_small_one(tmp_path: Path) -> None:
    gradient = np.linspace(0, 255, 2000).round().astype(np.uint8)[None].repeat(1500, 0)
    found = read_image(save(tmp_path / "1.jpg", gradient), (1, 30, 40))[0]
    np.testing.assert_allclose(found.mean(0), np.linspace(3, 252, 40), atol=2)


def test_commonest_size_is_taken(tmp_path: Path) -> None:
    sizes = [(24, 40), (24, 40), (10, 10)]
    paths = [save(tmp_path / f"{row}.png", noise(row, *size)) for row, size in enumerate(sizes)]
    assert survey(*paths).shape(None) == (3, 24, 40)
    assert survey(*paths).shape(28) == (3, 28, 28)


def test_size_is_at_most_224_with_the_same_proportions() -> None:
    survey = Survey()
    survey.note(((300, 400), True))
    assert survey.shape(None) == (1, 168, MOST_PIXELS)
    assert survey.shape(300) == (1, 300, 300)


def test_where_no_size_is_common_it_is_one_in_the_middle() -> None:
    survey = Survey()
    for side in (1, 50, 60, 70, 9000):
        survey.note(((side, side), True))
    assert survey.shape(None) == (1, 60, 60)


def read_all(paths: list[Path], shape: tuple[int, int, int]) -> tuple[Any, Survey]:
    survey = Survey()
    with tqdm(disable=True) as bar:
        return np.concatenate(list(decode([str(path) for path in paths], shape, survey, bar))), survey


def test_blocks_come_in_the_order_of_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kd_cli.data.images.BLOCK_BYTES", 3 * 24 * 40 * 4)
    paths = [save(tmp_path / f"{row}.png", noise(row)) for row in range(30)]
    images, survey = read_all(paths, (3, 24, 40))
    np.testing.assert_array_equal(images, [noise(row).transpose(2, 0, 1) for row in range(30)])
    assert survey.sizes == {(24, 40): 30}


def test_what_cannot_be_read_is_named_and_counts_for_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    good = save(tmp_path / "good.png", noise(0))
    cut = tmp_path / "cut.png"
    cut.write_bytes(save(tmp_path / "large.png", noise(1, 99, 99)).read_bytes()[:-4000])
    text, nowhere, program = tmp_path / "text.jpg", tmp_path / "nowhere.png", tmp_path / "eps.png"
    text.write_text("no image")
    nowhere.symlink_to(tmp_path / "nothing")
    program.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    bad = [cut, text, nowhere, program]
    images, survey = read_all([*bad, good], (3, 24, 40))
    assert survey.unreadable == [str(path) for path in bad]
    assert survey.sizes == {(24, 40): 1}
    assert len(images) == 5
    assert capfd.readouterr() == ("", "")


def test_image_of_too_many_pixels_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "1.png", noise(0))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 24 * 40 - 1)
    assert read_all([path], (3, 24, 40))[1].unreadable == [str(path)]
