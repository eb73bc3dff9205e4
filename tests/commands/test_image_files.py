"""The image files that a user means, what networks get of them, and the labels in their names."""

import io
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import ExifTags, Image

from kd_cli.commands import image_files
from kd_cli.commands.image_files import find_images, label_from_name, open_image, see
from kd_cli.config import KdError
from kd_cli.data.dataset import DataInfo
from kd_cli.digits.mnist_format import read_source
from tests.digits.images import draw_seven, encode

DIGITS = DataInfo("digits", tuple("0123456789"), (1, 28, 28), (0.1,), (0.3,), "")
PETS = DataInfo("pets", ("cat", "dog", "7"), (3, 24, 40), (0.5,) * 3, (0.25,) * 3, "")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two images and a text, in a folder with another one in it."""
    (tmp_path / "pets" / "more").mkdir(parents=True)
    for name in ("b.png", "more/a.jpg", "notes.txt"):
        (tmp_path / "pets" / name).write_bytes(b"")
    return tmp_path / "pets"


def names(*sources: object) -> list[str]:
    """The names of all files, and an exclamation mark in place of each error."""
    return ["!" if error else Path(file).name for file, error in find_images([str(each) for each in sources])]


class TestFindImages:
    def test_a_folder_and_patterns_stand_for_images_in_order(self, folder: Path) -> None:
        assert names(folder) == names(folder / "**" / "*.*g") == ["b.png", "a.jpg"]
        assert names(folder / "*") == ["b.png", "notes.txt"]
        assert names(folder / "**") == ["b.png", "a.jpg", "notes.txt"]
        assert names(folder / "m*" / "a.jpg", "-") == ["a.jpg", "-"]

    def test_a_pattern_may_be_relative(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(folder)
        assert list(find_images(["**/*.jpg"])) == [(os.path.join("more", "a.jpg"), None)]

    def test_links_that_lead_in_circles_are_not_followed(self, folder: Path) -> None:
        for name in ("one", "two"):
            (folder / "more" / name).symlink_to(folder, target_is_directory=True)
        assert names(folder) == names(folder / "**" / "*.*g") == ["b.png", "a.jpg"]

    def test_folders_that_are_hidden_match_no_two_stars(self, folder: Path) -> None:
        (folder / "more").rename(folder / ".more")
        assert names(folder / "**" / "*.*g") == ["b.png"]

    def test_too_many_images_are_refused(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(image_files, "MAX_IMAGES", 1)
        for source in (folder, folder / "**" / "*.*g"):
            ((_, error),) = find_images([str(source)])
            assert error == f"more than 1 images in {source}: name a folder, or a pattern, that has fewer"
        assert names(folder / "more") == ["a.jpg"]


class TestOpenImage:
    def test_a_dash_reads_standard_input(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"content")))
        source, name = open_image("-")
        assert isinstance(source, io.BytesIO)
        assert (source.read(), name) == (b"content", "standard input")

    def test_endless_standard_input_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(image_files, "LARGEST_STDIN", 2**20)
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(bytes(2**20 + 1))))
        with pytest.raises(KdError, match="more than 1 MB"):
            open_image("-")


class TestSee:
    @staticmethod
    def halves(width: int, height: int) -> Image.Image:
        """The upper half red, the lower half blue."""
        image = Image.new("RGB", (width, height), (200, 0, 0))
        image.paste((0, 0, 100), (0, height // 2, width, height))
        return image

    def test_handwriting_is_brought_to_the_form_of_mnist(self) -> None:
        content = encode(Image.fromarray(255 - draw_seven()))
        expected = read_source(io.BytesIO(content), "seven")
        (seen,) = see(io.BytesIO(content), "seven", DIGITS)
        np.testing.assert_array_equal(seen.pixels, expected[np.newaxis])
        assert (seen.digit, seen.digits) == (1, 1)

    @pytest.mark.parametrize(("every", "numbers"), [(False, [2]), (True, [1, 2, 3])])
    def test_of_several_digits_each_is_seen_or_the_one_with_most_ink(self, every: bool, numbers: list[int]) -> None:
        page = np.full((200, 500), 255, np.uint8)
        for left, thickness in ((20, 112), (180, 140), (360, 112)):
            digit = Image.fromarray(draw_seven()).resize((thickness, thickness))
            page[20 : 20 + thickness, left : left + thickness] -= np.asarray(digit)
        seen = see(io.BytesIO(encode(Image.fromarray(page))), "sevens", DIGITS, every)
        assert [each.digit for each in seen] == numbers
        assert {each.digits for each in seen} == {3}

    def test_writing_that_is_not_of_digits_is_one_character(self) -> None:
        page = np.full((112, 300), 255, np.uint8)
        page[:, :112] = page[:, 150:262] = 255 - draw_seven()
        data = DataInfo("kmnist", tuple("0123456789"), (1, 28, 28), (0.1,), (0.3,), "")
        content = encode(Image.fromarray(page))
        (seen,) = see(io.BytesIO(content), "kana", data)
        assert (seen.digit, seen.digits, seen.box) == (None, None, None)
        np.testing.assert_array_equal(seen.pixels[0], read_source(io.BytesIO(content), "kana"))

    @pytest.mark.parametrize(("channels", "upper"), [(1, [60]), (3, [200, 0, 0]), (4, [200, 0, 0, 255])])
    def test_other_images_take_channels_and_size_of_the_data(self, channels: int, upper: list[int]) -> None:
        data = DataInfo("pets", ("cat", "dog"), (channels, 24, 40), (0.5,) * channels, (0.25,) * channels, "")
        seen = see(io.BytesIO(encode(self.halves(80, 60))), "image", data)[0].pixels
        assert seen.shape == (channels, 24, 40)
        assert seen.dtype == np.uint8
        assert seen[:, 2, 5].tolist() == upper

    def test_an_image_that_lies_on_its_side_is_turned(self) -> None:
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = 6
        lying = self.halves(60, 80).transpose(Image.Transpose.ROTATE_90)
        seen = see(io.BytesIO(encode(lying, "JPEG", quality=95, exif=exif)), "image", PETS)[0].pixels
        assert seen[0, 2].min() > 150
        assert seen[0, -3].max() < 50

    def test_what_is_no_image_is_named(self) -> None:
        with pytest.raises(KdError, match=r"cannot read a\.png: it is not a"):
            see(io.BytesIO(b"nothing"), "a.png", PETS)


@pytest.mark.parametrize(
    ("file", "label"),
    [
        *(("7.png", "7"), ("7-a.png", "7"), ("7_b.png", "7"), ("7 (2).png", "7"), ("7", "7"), ("cats/7.png", "7")),
        *(("3/IMG_20.png", "3"), ("3/7.png", "3"), ("/some/where/3/a.png", "3")),
        *(("12.png", None), ("2024-scan.png", None), ("7a.png", None), ("7é.png", None), ("a7.png", None)),
        *(("12/a.png", None), ("7 sevens/a.png", None), ("7/deep/a.png", None), ("a.png", None), ("\u0667.png", None)),
    ],
)
def test_a_label_is_a_digit_that_is_the_folder_or_stands_at_the_beginning_of_the_name(
    file: str, label: str | None
) -> None:
    assert label_from_name(file, DIGITS) == label


@pytest.mark.parametrize(
    ("file", "label"),
    [("cat/1.png", "cat"), ("a/dog/1.png", "dog"), ("7/1.png", "7"), ("7.png", None), ("cat.png", None), ("1/a", None)],
)
def test_a_label_of_other_data_is_the_class_that_the_folder_is_named_after(file: str, label: str | None) -> None:
    assert label_from_name(file, PETS) == label


def test_the_label_of_a_digit_is_its_class_by_number() -> None:
    kana = DataInfo("kmnist", ("お", "き"), (1, 28, 28), (0.1,), (0.3,), "")
    assert [label_from_name(f"{digit}.png", kana) for digit in range(3)] == ["お", "き", None]
