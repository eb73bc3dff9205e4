"""Image files of every kind become pages, in bounded memory; everything else is refused in one line."""

import io
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kd_cli.config import KdError
from kd_cli.digits.decode import PAGE_SIDE, Pixels, read_page, read_with_size
from tests.digits.images import decode, draw_seven, encode

SEVEN = Image.fromarray(255 - draw_seven())
LARGE = SEVEN.resize((1120, 2240))
"""Four times too large to be kept, with sides that four divides: turned, it is averaged over the same squares."""

TURNED = Image.Exif()
TURNED[0x0112] = 6

ROOT = Path(__file__).parents[2]


def assert_alike(page: Pixels, expected: Pixels, tolerance: float) -> None:
    assert page.shape == expected.shape
    assert np.abs(page - expected).mean() < tolerance


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "F"])
def test_every_mode_gives_the_same_page(mode: str) -> None:
    image = Image.fromarray(np.asarray(SEVEN, np.uint16) * 257) if mode == "I;16" else SEVEN.convert(mode)
    assert_alike(decode(image, "TIFF"), decode(SEVEN), 1e-3)


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF"])
def test_every_format_gives_the_same_page(file_format: str) -> None:
    assert_alike(decode(SEVEN, file_format), decode(SEVEN), 0.01)


@pytest.mark.parametrize("scale", [1, 4095 / 255, 257])
def test_grey_of_any_depth_is_white_at_its_full_scale(scale: float) -> None:
    deep = Image.fromarray((np.asarray(SEVEN, float) * scale).astype(np.uint16))
    assert_alike(decode(deep, "TIFF"), decode(SEVEN), 1e-3)


def test_only_the_first_frame_of_an_animation_counts() -> None:
    white = Image.new("L", SEVEN.size, "white")
    assert_alike(decode(SEVEN, "GIF", save_all=True, append_images=[white]), decode(SEVEN), 1e-3)


@pytest.mark.parametrize("upright", [SEVEN, LARGE], ids=["kept", "shrunk"])
@pytest.mark.parametrize("file_format", ["PNG", "TIFF"])
@pytest.mark.parametrize("orientation", range(10))
def test_an_image_taken_with_the_camera_turned_is_upright(
    upright: Image.Image, file_format: str, orientation: int
) -> None:
    turns = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE", 6: "ROTATE_90"}
    turns |= {7: "TRANSVERSE", 8: "ROTATE_270"}
    exif = Image.Exif()
    exif[0x0112] = orientation  # 0 and 9 mean nothing
    stored = upright.transpose(Image.Transpose[turns[orientation]]) if orientation in turns else upright
    page, size = read_with_size(io.BytesIO(encode(stored, file_format, exif=exif)), "image")
    np.testing.assert_array_equal(page, decode(upright))
    assert size == upright.size


@pytest.mark.parametrize("size", [(640, 100), (641, 100), (100, 2000), (3001, 2999)])
def test_a_page_is_at_most_640_pixels_long_and_keeps_its_proportions_and_brightness(size: tuple[int, int]) -> None:
    page = decode(SEVEN.resize(size))
    assert PAGE_SIDE / 2 < max(page.shape) <= PAGE_SIDE
    assert page.shape[1] / page.shape[0] == pytest.approx(size[0] / size[1], rel=0.02)
    assert page.mean() == pytest.approx(np.asarray(SEVEN).mean() / 255, abs=0.01)


def test_a_photograph_that_is_decoded_at_a_part_of_its_size_keeps_its_size_in_mind() -> None:
    page, size = read_with_size(io.BytesIO(encode(SEVEN.resize((3000, 4000)), "JPEG")), "image")
    assert max(page.shape) <= PAGE_SIDE
    assert size == (3000, 4000)


@pytest.mark.parametrize(("ink", "expected"), [(0, 255 - draw_seven()), (255, draw_seven())])
def test_ink_on_transparent_paper_is_seen_whether_black_or_white(ink: int, expected: Pixels) -> None:
    image = Image.merge("LA", [Image.new("L", SEVEN.size, ink), Image.fromarray(draw_seven())])
    np.testing.assert_allclose(decode(image)[..., 0], expected / 255, atol=1e-6)


def test_the_colour_of_what_is_transparent_does_not_show() -> None:
    alpha = Image.fromarray(draw_seven()).resize(LARGE.size, Image.Resampling.NEAREST)
    hidden = np.random.default_rng(0).integers(0, 256, (LARGE.height, LARGE.width), np.uint8)
    hidden[np.asarray(alpha) > 0] = 0
    garish, plain = (Image.merge("LA", [each, alpha]) for each in (Image.fromarray(hidden), Image.new("L", LARGE.size)))
    np.testing.assert_array_equal(decode(garish), decode(plain))


def test_a_transparent_colour_of_a_palette_is_white() -> None:
    two_colours = Image.fromarray((draw_seven() > 0).view(np.uint8), "P")
    two_colours.putpalette([90, 90, 90, 0, 0, 0])
    assert_alike(decode(two_colours, transparency=0), decode(SEVEN), 1e-3)


def png_header(width: int, height: int, depth: int = 8, colour: int = 2) -> bytes:
    """A PNG file that promises more than it holds."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 60), np.uint8))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(b"", "not a PNG", id="empty"),
        pytest.param(b"not an image", "not a PNG", id="text"),
        pytest.param(encode(NOISE)[:900], "damaged", id="truncated"),
        pytest.param(png_header(60_000, 60_000), "too many pixels", id="bomb"),
        pytest.param(png_header(20_000, 20_000, depth=1, colour=0), "too many pixels", id="many pixels in few bytes"),
        pytest.param(png_header(10_000, 10_000), "10,000 x 10,000 pixels are too many", id="too large for the memory"),
    ],
)
def test_a_file_that_is_no_image_or_too_large_is_refused_in_one_line_with_its_name(content: bytes, reason: str) -> None:
    with pytest.raises(KdError, match=reason) as raised:
        read_page(io.BytesIO(content), "it.png")
    assert "it.png" in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("file", "advice"), [("none.png", "no image none.png: check the path"), ("x" * 300, "File name too long; check")]
)
def test_a_path_that_is_no_file_is_refused_with_the_systems_error_as_cause(file: str, advice: str) -> None:
    with pytest.raises(KdError, match=advice) as raised:
        read_page(Path(file), file)
    assert isinstance(raised.value.__cause__, OSError)


def test_a_folder_is_no_image(tmp_path: Path) -> None:
    with pytest.raises(KdError, match="it is not a regular file"):
        read_page(tmp_path, str(tmp_path))


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of memory is read from Linux's /proc")
@pytest.mark.parametrize(
    ("mode", "side", "options"),
    [
        ("RGB", 7_200, {"format": "PNG", "compress_level": 1}),
        ("RGB", 7_200, {"format": "PNG", "compress_level": 1, "exif": TURNED}),
        ("L", 13_000, {"format": "PNG", "compress_level": 1}),
        ("RGB", 12_000, {"format": "JPEG"}),
        ("RGB", 5_500, {"format": "JPEG", "progressive": True}),
        ("RGB", 3_100, {"format": "WEBP", "quality": 10, "method": 0}),
        ("RGB", 5_000, {"format": "TIFF", "compression": "tiff_lzw"}),
        ("RGB", 5_000, {"format": "TIFF", "exif": TURNED}),
        ("P", 10_000, {"format": "GIF"}),
    ],
)
@pytest.mark.slow
def test_no_image_takes_more_than_300_mb(tmp_path: Path, mode: str, side: int, options: dict[str, object]) -> None:
    file = tmp_path / "large"
    SEVEN.resize((side, side)).convert(mode).save(file, **options)  # type: ignore[arg-type]
    # Not getrusage: its peak is that of the tests' own process until the new one exceeds it.
    program = (
        "import re, sys; from pathlib import Path; from kd_cli.digits.mnist_format import read_source\n"
        "peak = lambda: int(re.search(r'VmHWM:\\s+(\\d+) kB', open('/proc/self/status').read())[1])\n"
        "before = peak(); read_source(Path(sys.argv[1]), 'file'); print(peak() - before)"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    run = subprocess.run(
        [sys.executable, "-c", program, str(file)], capture_output=True, text=True, check=True, env=environment
    )
    assert int(run.stdout) * 1024 < 300e6
