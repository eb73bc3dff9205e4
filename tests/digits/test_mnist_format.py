"""`kd predict`: what it makes of pictures as people have them, and what it does with files that are none."""

import csv
import io
import json
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits as load_uci_digits

from kd_cli import predict
from kd_cli.checkpoint import Checkpoint, load_checkpoint, path_for
from kd_cli.cli import main
from kd_cli.pictures import read_page
from kd_cli.reading import label_from_name
from kd_cli.settings import DatasetName, KdError, Role
from tests import pages
from tests.pictures import accuracy, load_digits, see, through_pipeline, uci_file

Digits = tuple[NDArray[np.uint8], NDArray[np.int64]]
Draw = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]

MIXED_PAGES = 240
PAGES_OF_A_KIND = 150


@pytest.fixture(scope="module")
def digits() -> Digits:
    try:
        return load_digits(2000)
    except KdError as error:
        pytest.skip(f"MNIST is not here: {error}")


@pytest.fixture(scope="module")
def networks(shipped: Path) -> dict[str, Checkpoint]:
    return {
        role.value: load_checkpoint(path_for(shipped, DatasetName.mnist, role), torch.device("cpu")) for role in Role
    }


@pytest.fixture
def seven(tmp_path: Path) -> Path:
    """Black on white, in a folder of its own."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    return _write_seven(folder / "7-mine.png")


def _drawn_seven() -> NDArray[np.uint8]:
    """White on black, (112, 112): a bar across the top and a slanted stem."""
    rows, columns = np.mgrid[:112, :112]
    bar = (abs(rows - 26) < 5) & (columns > 34) & (columns < 80)
    stem = (rows >= 26) & (rows < 90) & (abs(columns - (76 - (rows - 26) * 0.4)) < 5)
    return np.where(bar | stem, 255, 0).astype(np.uint8)


def _write_seven(path: Path) -> Path:
    Image.fromarray(255 - _drawn_seven()).save(path)
    return path


def _read(image: Image.Image, file_format: str = "PNG", **options: object) -> NDArray[np.uint8]:
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return predict.from_page(read_page(io.BytesIO(file.getvalue()), "picture"))


def _assert_alike(picture: NDArray[np.uint8], expected: NDArray[np.uint8], tolerance: float) -> None:
    assert np.abs(picture.astype(float) - expected).mean() < tolerance


# What people have


@pytest.mark.parametrize("role", ["teacher", "student"])
def test_pages_of_all_kinds_together_cost_at_most_a_point_and_a_half(
    digits: Digits, networks: dict[str, Checkpoint], mixed_pages: NDArray[np.uint8], role: str
) -> None:
    images, labels = digits[0][:MIXED_PAGES], digits[1][:MIXED_PAGES]
    plain = accuracy(networks[role], images, labels)
    assert accuracy(networks[role], mixed_pages, labels) >= plain - 0.015


@pytest.fixture(scope="module")
def mixed_pages(digits: Digits) -> NDArray[np.uint8]:
    kinds = list(pages.KINDS)
    return see(pages.draw(digits[0][i], kinds[i % len(kinds)], seed=i) for i in range(MIXED_PAGES))


@pytest.mark.slow
@pytest.mark.parametrize("kind", pages.KINDS)
def test_no_kind_of_page_costs_more_than_four_points(
    digits: Digits, networks: dict[str, Checkpoint], kind: str
) -> None:
    images, labels = digits[0][:PAGES_OF_A_KIND], digits[1][:PAGES_OF_A_KIND]
    seen = see(pages.draw(image, kind, seed) for seed, image in enumerate(images))
    for network in networks.values():
        assert accuracy(network, seen, labels) >= accuracy(network, images, labels) - 0.04


@pytest.mark.parametrize("side", [8, 64, 300])
def test_digits_of_another_data_set_that_fill_the_picture_are_read(networks: dict[str, Checkpoint], side: int) -> None:
    uci = load_uci_digits()
    images, labels = uci.images[::6], uci.target[::6]
    seen = see(uci_file(image, side, Image.Resampling.NEAREST) for image in images)
    for network in networks.values():
        assert accuracy(network, seen, labels) >= 0.9


@pytest.mark.parametrize("inverted", [False, True])
def test_pictures_of_mnist_pass_unchanged(digits: Digits, inverted: bool) -> None:
    images = digits[0][:500]
    files = (255 - images if inverted else images) / np.float32(255)
    seen = np.stack([predict.from_page(np.repeat(file[..., None], 3, axis=2)) for file in files])
    np.testing.assert_array_equal(seen, images)


def test_the_ink_fills_twenty_pixels_and_its_mass_is_in_the_middle() -> None:
    picture = _read(Image.fromarray(_drawn_seven()))
    rows, columns = np.nonzero(picture)
    assert max(np.ptp(rows), np.ptp(columns)) + 1 == 20
    mass = picture / picture.sum()
    assert abs(mass.sum(axis=1) @ np.arange(28) - 14) <= 0.5
    assert abs(mass.sum(axis=0) @ np.arange(28) - 14) <= 0.5


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "F"])
def test_every_mode_shows_the_same_digit(mode: str) -> None:
    grey = Image.fromarray(255 - _drawn_seven())
    image = Image.fromarray(np.asarray(grey, np.uint16) * 257) if mode == "I;16" else grey.convert(mode)
    _assert_alike(_read(image, "TIFF"), _read(grey), 2)


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF"])
def test_every_format_shows_the_same_digit(file_format: str) -> None:
    image = Image.fromarray(255 - _drawn_seven())
    _assert_alike(_read(image, file_format), _read(image), 4)


def test_only_the_first_frame_of_an_animation_counts() -> None:
    first, second = Image.fromarray(255 - _drawn_seven()), Image.new("L", (112, 112), "white")
    _assert_alike(_read(first, "GIF", save_all=True, append_images=[second]), _read(first), 2)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_taken_with_the_camera_turned_is_upright(orientation: int) -> None:
    image = Image.fromarray(255 - _drawn_seven())
    turns = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE", 6: "ROTATE_90"}
    turns |= {7: "TRANSVERSE", 8: "ROTATE_270"}
    stored = image.transpose(Image.Transpose[turns[orientation]]) if orientation > 1 else image
    exif = Image.Exif()
    exif[0x0112] = orientation
    _assert_alike(_read(stored, "PNG", exif=exif), _read(image), 2)


@pytest.mark.parametrize("ink", [0, 255])
def test_ink_on_transparent_paper_is_seen_whether_black_or_white(ink: int) -> None:
    cover = _drawn_seven()
    image = Image.merge("LA", [Image.new("L", (112, 112), ink), Image.fromarray(cover)])
    _assert_alike(_read(image), _read(Image.fromarray(cover)), 2)


def test_red_ink_on_a_green_as_bright_is_seen() -> None:
    cover = _drawn_seven()[..., None] / 255
    red, green = np.array([220, 60, 60]), np.array([40, 135, 60])
    page = Image.fromarray((red * cover + green * (1 - cover)).round().astype(np.uint8))
    assert np.ptp(np.asarray(page.convert("L"))) < 30
    _assert_alike(_read(page), _read(Image.fromarray(_drawn_seven())), 4)


@pytest.mark.parametrize("squared", [False, True])
def test_ruled_lines_and_specks_are_not_ink(squared: bool) -> None:
    clean = 255 - np.pad(_drawn_seven(), 60)
    page = clean.copy()
    page[11::28] = np.minimum(page[11::28], 120)
    if squared:
        page[:, 11::28] = np.minimum(page[:, 11::28], 120)
    page[20:24, 20:23] = page[200:203, 30:34] = 0
    _assert_alike(_read(Image.fromarray(page)), _read(Image.fromarray(clean)), 12)


def test_a_broken_digit_keeps_its_parts() -> None:
    page = 255 - np.pad(_drawn_seven(), 40)
    page[74:79] = 255  # cuts the bar off the stem
    rows = np.nonzero(_read(Image.fromarray(page)).any(axis=1))[0]
    assert np.ptp(rows) + 1 == 20
    whole = _read(Image.fromarray(255 - np.pad(_drawn_seven(), 40)))
    _assert_alike(_read(Image.fromarray(page)), whole, 12)


@pytest.mark.parametrize("pen", [1, 2, 6])
def test_strokes_come_out_about_as_thick_whatever_the_pen(pen: int) -> None:
    page = np.full((400, 400), 255, np.uint8)
    page[50:350, 200 : 200 + pen] = 0
    page[50 : 50 + pen, 120:200] = 0
    column = _read(Image.fromarray(page))[14].astype(float) / 255
    assert 1 <= column.sum() <= 4.5


# What is no picture


def _png_header(width: int, height: int, depth: int = 8, colour: int = 2) -> bytes:
    """A PNG file that promises more than it holds."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def _png(pixels: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


NO_PICTURES = {
    "empty": (b"", "no PNG"),
    "text": (b"not a picture", "no PNG"),
    "truncated": (_png(np.random.default_rng(0).integers(0, 255, (60, 60), np.uint8))[:900], "damaged"),
    "bomb": (_png_header(60_000, 60_000), "too many"),
    "20,000 x 20,000": (_png_header(20_000, 20_000, depth=1, colour=0), "too many"),
    "10,000 x 10,000": (_png_header(10_000, 10_000), "10,000 x 10,000 pixels are too many"),
    "white": (_png(np.full((50, 50), 255, np.uint8)), "blank"),
    "black": (_png(np.zeros((28, 28), np.uint8)), "blank"),
    "one pixel": (_png(np.zeros((1, 1), np.uint8)), "blank"),
    "noise": (_png(np.random.default_rng(0).normal(200, 10, (300, 300)).astype(np.uint8)), "blank"),
}


@pytest.mark.parametrize("name", NO_PICTURES)
def test_what_cannot_be_read_gives_one_clear_line(tmp_path: Path, name: str) -> None:
    content, reason = NO_PICTURES[name]
    file = tmp_path / "it.png"
    file.write_bytes(content)
    with pytest.raises(KdError) as raised:
        predict.read_picture(str(file))
    message = str(raised.value)
    assert reason in message
    assert str(file) in message
    assert "\n" not in message


@settings(max_examples=60, deadline=None)
@given(
    file_format=st.sampled_from(["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF"]),
    changes=st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), max_size=8),
    length=st.integers(0, 4000),
)
def test_a_damaged_file_is_read_or_refused(file_format: str, changes: list[tuple[int, int]], length: int) -> None:
    file = io.BytesIO()
    Image.fromarray(_drawn_seven()[::2, ::2]).save(file, file_format)
    content = bytearray(file.getvalue()[: max(length, 20)])
    for place, value in changes:
        content[place % len(content)] = value
    assert through_pipeline(bytes(content)).shape == (28, 28)


@pytest.mark.skipif(sys.platform == "win32", reason="the peak of memory is read the POSIX way")
@pytest.mark.parametrize(
    ("mode", "side", "options"),
    [
        ("RGB", 7_200, {"format": "PNG", "compress_level": 1}),
        ("L", 13_000, {"format": "PNG", "compress_level": 1}),
        ("RGB", 12_000, {"format": "JPEG"}),
        ("RGB", 5_500, {"format": "JPEG", "progressive": True}),
        ("RGB", 3_100, {"format": "WEBP", "quality": 10, "method": 0}),
        ("RGB", 5_000, {"format": "TIFF", "compression": "tiff_lzw"}),
        ("P", 10_000, {"format": "GIF"}),
    ],
)
@pytest.mark.slow
def test_no_picture_takes_more_than_300_mb(tmp_path: Path, mode: str, side: int, options: dict[str, object]) -> None:
    file = tmp_path / "large"
    Image.fromarray(255 - _drawn_seven()).resize((side, side)).convert(mode).save(file, **options)  # type: ignore[arg-type]
    program = (
        "import resource, sys; from kd_cli import predict\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "before = peak(); predict.read_picture(sys.argv[1]); print(peak() - before)"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)}
    run = subprocess.run(
        [sys.executable, "-c", program, str(file)], capture_output=True, text=True, check=True, env=environment
    )
    unit = 1 if sys.platform == "darwin" else 1024
    assert int(run.stdout) * unit < 300e6


# The command


@pytest.mark.usefixtures("networks")
class TestCommand:
    """The command as a user runs it."""

    def test_json_is_a_list_with_a_reading_by_each_network(
        self, seven: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["predict", str(seven), "--json", "--top", "3"]) == 0
        [row] = json.loads(capsys.readouterr().out)
        assert row["file"] == str(seven)
        assert row["error"] is None
        assert row["agree"] is True
        for role in ("teacher", "student"):
            assert row[role]["class"] == 7
            assert sum(row[role]["probabilities"]) == pytest.approx(1)
            assert row[role]["confidence"] == max(row[role]["probabilities"])
            assert [each["probability"] for each in row[role]["top"]] == sorted(row[role]["probabilities"])[:-4:-1]

    def test_a_file_that_cannot_be_read_does_not_stop_the_others(
        self, seven: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        broken = seven.with_name("0-broken.png")
        broken.write_bytes(b"no picture")
        assert main(["predict", str(broken), str(seven), "--json"]) == 1
        captured = capsys.readouterr()
        first, second = json.loads(captured.out)
        assert "no PNG" in first["error"]
        assert second["teacher"]["class"] == 7
        assert captured.err.count("\n") == 1

    @pytest.mark.parametrize("source", [".", "*.png", "**/*.png"])
    def test_a_folder_or_a_pattern_stands_for_its_pictures_in_order(
        self, seven: Path, source: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        _write_seven(seven.with_name("1.png"))
        seven.with_name("notes.txt").write_text("no picture, and not taken for one")
        assert main(["predict", str(seven.parent / source), "--json"]) == 0
        names = [Path(row["file"]).name for row in json.loads(capsys.readouterr().out)]
        assert names == ["1.png", "7-mine.png"]

    def test_a_folder_or_a_pattern_without_pictures_is_an_error(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["predict", str(tmp_path), str(tmp_path / "*.png")]) == 1
        assert len(capsys.readouterr().err.splitlines()) == 2

    def test_a_dash_stands_for_standard_input(
        self, seven: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(seven.read_bytes())))
        assert main(["predict", "-", "--json"]) == 0
        [row] = json.loads(capsys.readouterr().out)
        assert (row["file"], row["teacher"]["class"]) == ("-", 7)

    def test_csv_has_a_line_for_each_picture(self, seven: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["predict", str(seven), str(seven.with_name("none.png")), "--csv"]) == 1
        first, second = csv.DictReader(io.StringIO(capsys.readouterr().out))
        assert (first["teacher"], first["student"], first["agree"], first["error"]) == ("7", "7", "yes", "")
        assert float(first["teacher_confidence"]) > float(first["teacher_2_confidence"])
        assert "none.png" in second["error"]

    def test_labels_from_names_give_an_accuracy(self, seven: Path, capsys: pytest.CaptureFixture[str]) -> None:
        wrong = _write_seven(seven.with_name("1-wrong.png"))
        assert main(["predict", str(seven), str(wrong), "--labels-from-name"]) == 0
        output = capsys.readouterr().out
        assert output.count("accuracy 50.00% (1 of 2 right)") == 2

    def test_what_the_networks_saw_is_saved_and_read_back_unchanged(self, seven: Path, tmp_path: Path) -> None:
        twin = tmp_path / "twin" / seven.name
        twin.parent.mkdir()
        _write_seven(twin)
        seen = tmp_path / "seen"
        assert main(["predict", str(seven), str(twin), "--save-preprocessed", str(seen)]) == 0
        saved = sorted(seen.iterdir())
        assert [path.name for path in saved] == ["7-mine-2.png", "7-mine.png"]
        for path in saved:
            np.testing.assert_array_equal(np.asarray(Image.open(path)), predict.read_picture(str(path)))

    def test_show_draws_28_rows_in_14_lines(self, seven: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["predict", str(seven), "--show"]) == 0
        drawn = capsys.readouterr().out.split(f"\n{seven}\n")[1].splitlines()
        assert len(drawn) == 14
        assert any("█" in line for line in drawn)

    @pytest.mark.parametrize("options", [["--json", "--csv"], ["--json", "--show"], ["--top", "0"]])
    def test_options_that_cannot_be_are_usage_errors(self, seven: Path, options: list[str]) -> None:
        assert main(["predict", str(seven), *options]) == 2


@pytest.mark.parametrize(
    ("file", "digit"), [("7-a.png", 7), ("3/IMG_20.png", 3), ("3/7.png", 3), ("cats/7.png", 7), ("a.png", None)]
)
def test_a_label_is_the_folder_named_by_a_digit_or_the_digit_that_a_name_begins_with(
    file: str, digit: int | None
) -> None:
    assert label_from_name(file) == digit
