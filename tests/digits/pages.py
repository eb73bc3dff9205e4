"""Pages as people have them: a digit drawn somewhere on paper, lit, photographed and saved in one way or another.

A page depends on nothing but the digit, the kind of page and the seed.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from kd_cli.digits.decode import Pixels
from tests.digits.images import encode

Random = np.random.Generator

PAGE_WIDTHS = (60, 2000)
"""Pixels; small and large ones are equally frequent (the logarithm is uniform)."""

DIGIT_HEIGHTS = (0.1, 0.9)
"""Share of the page's height."""


@dataclass(frozen=True)
class Drawing:
    """A page before it becomes a file.

    Attributes:
        cover: (height, width); where 1, the ink hides the paper.
        paper: colour, RGB from 0 to 1.
        ink: colour, RGB from 0 to 1.
    """

    cover: Pixels
    paper: Pixels
    ink: Pixels

    @property
    def pixels(self) -> Pixels:
        """(height, width, 3), from 0 to 1."""
        cover = self.cover[..., None]
        return self.paper * (1 - cover) + self.ink * cover


def draw(digit: NDArray[np.uint8], kind: str, seed: int) -> bytes:
    """The file of one page: ``digit``, (28, 28) as in MNIST, on a page of this kind."""
    random = np.random.default_rng([seed, sorted(KINDS).index(kind)])
    return KINDS[kind](place(digit, random), random)


def place(digit: NDArray[np.uint8], random: Random, widths: tuple[int, int] = PAGE_WIDTHS) -> Drawing:
    """Dark ink on light paper: a digit of any size, anywhere on a page of any size."""
    rows, columns = np.nonzero(digit)
    ink = Image.fromarray(digit[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1])
    page_width = int(np.exp(random.uniform(*np.log(widths))))
    page_height = int(page_width * random.uniform(0.7, 1.4))
    height = random.uniform(*DIGIT_HEIGHTS) * page_height
    scale = min(height / ink.height, 0.9 * page_width / ink.width)
    size = (max(1, round(ink.width * scale)), max(1, round(ink.height * scale)))
    drawn = np.asarray(ink.resize(size, Image.Resampling.BICUBIC), np.float32) / 255
    top, left = random.integers(page_height - size[1] + 1), random.integers(page_width - size[0] + 1)
    cover: Pixels = np.zeros((page_height, page_width), np.float32)
    cover[top : top + size[1], left : left + size[0]] = drawn
    paper, pen = random.uniform(0.75, 1), random.uniform(0, 0.25)
    return Drawing(cover, np.full(3, paper, np.float32), np.full(3, pen, np.float32))


def _plain(drawing: Drawing, random: Random) -> bytes:
    return as_png(drawing.pixels)


def _light_on_dark(drawing: Drawing, random: Random) -> bytes:
    return as_png(1 - drawing.pixels)


def _coloured(drawing: Drawing, random: Random) -> bytes:
    return as_png(_in_colour(drawing, random).pixels)


def _gradient(drawing: Drawing, random: Random) -> bytes:
    return as_png(lit(drawing.pixels, random))


def _noise(drawing: Drawing, random: Random) -> bytes:
    return as_png(noisy(drawing.pixels, random))


def _jpeg(drawing: Drawing, random: Random) -> bytes:
    return encode(as_image(drawing.pixels), "JPEG", quality=30)


def _alpha(drawing: Drawing, random: Random) -> bytes:
    """Dark ink on nothing: the paper is transparent, and what colour it hides is anybody's guess."""
    hidden = np.broadcast_to(drawing.ink, (*drawing.cover.shape, 3))
    return as_png(np.concatenate([hidden, drawing.cover[..., None]], axis=2))


def _exif(drawing: Drawing, random: Random) -> bytes:
    """Stored turned or mirrored, with the tag that says how it was held."""
    orientation = int(random.integers(2, 9))
    exif = Image.Exif()
    exif[0x0112] = orientation
    # Orientations 6 and 8 undo one another; every other one undoes itself.
    undo = Image.Exif()
    undo[0x0112] = {6: 8, 8: 6}.get(orientation, orientation)
    upright = as_image(drawing.pixels)
    upright.info["exif"] = undo.tobytes()
    return encode(ImageOps.exif_transpose(upright), "JPEG", quality=90, exif=exif)


def _sixteen_bit(drawing: Drawing, random: Random) -> bytes:
    grey = (drawing.pixels.mean(axis=2) * 65535).round().astype(np.uint16)
    return encode(Image.fromarray(grey), random.choice(["PNG", "TIFF"]))


def _palette(drawing: Drawing, random: Random) -> bytes:
    return encode(as_image(_in_colour(drawing, random).pixels).quantize(32), "GIF")


def _cmyk(drawing: Drawing, random: Random) -> bytes:
    return encode(as_image(drawing.pixels).convert("CMYK"), "TIFF")


def _one_bit(drawing: Drawing, random: Random) -> bytes:
    return encode(as_image(drawing.pixels).convert("L").point(lambda level: level > 127, mode="1"), "PNG")


def _ruled(drawing: Drawing, random: Random) -> bytes:
    """Feint lines right across, in front of the digit as much as beside it."""
    pixels = drawing.pixels
    spacing = max(6, len(pixels) // random.integers(6, 15))
    thickness = max(1, len(pixels) // 300)
    line = np.array([0.45, 0.55, 0.85], np.float32)
    for top in range(random.integers(spacing), len(pixels), spacing):
        pixels[top : top + thickness] = np.minimum(pixels[top : top + thickness], line)
    return as_png(pixels)


def _specks(drawing: Drawing, random: Random) -> bytes:
    """Dust as dark as the ink, each speck up to a fifteenth of the digit's height."""
    pixels, covered = drawing.pixels, np.nonzero(drawing.cover.any(axis=1))[0]
    side = max(1, (covered.max() - covered.min()) // 15)
    for _ in range(random.integers(5, 30)):
        top, left = random.integers(len(pixels)), random.integers(pixels.shape[1])
        pixels[top : top + random.integers(1, side + 1), left : left + random.integers(1, side + 1)] = drawing.ink
    return as_png(pixels)


def _shadow(drawing: Drawing, random: Random) -> bytes:
    """A soft-edged shadow of 35 % over a part of the page."""
    across = _ramp(drawing.cover.shape, random)
    edge = 1 / (1 + np.exp((random.uniform(0.25, 0.75) - across) / 0.05))
    return as_png(drawing.pixels * (1 - 0.35 * edge[..., None]))


def _mixed(drawing: Drawing, random: Random) -> bytes:
    """Several troubles at once: each is there or not by the toss of a coin."""
    if random.random() < 0.5:
        drawing = _in_colour(drawing, random)
    elif random.random() < 0.5:
        drawing = Drawing(drawing.cover, 1 - drawing.paper, 1 - drawing.ink)
    pixels = drawing.pixels
    if random.random() < 0.5:
        pixels = lit(pixels, random)
    if random.random() < 0.5:
        pixels = noisy(pixels, random)
    return encode(as_image(pixels), "JPEG", quality=30) if random.random() < 0.5 else as_png(pixels)


KINDS: dict[str, Callable[[Drawing, Random], bytes]] = {
    "dark on light": _plain,
    "light on dark": _light_on_dark,
    "coloured": _coloured,
    "gradient": _gradient,
    "noise": _noise,
    "jpeg": _jpeg,
    "alpha": _alpha,
    "exif": _exif,
    "16-bit": _sixteen_bit,
    "palette": _palette,
    "cmyk": _cmyk,
    "1-bit": _one_bit,
    "ruled": _ruled,
    "specks": _specks,
    "shadow": _shadow,
    "mixed": _mixed,
}


def _in_colour(drawing: Drawing, random: Random) -> Drawing:
    """Any two colours that a person can tell apart, of like brightness too."""
    while True:
        paper, ink = random.random((2, 3), np.float32)
        if np.linalg.norm(paper - ink) > 0.5:
            return Drawing(drawing.cover, paper, ink)


def lit(pixels: Pixels, random: Random) -> Pixels:
    """Light that falls off by 40 % from one side of the page to the other, in any direction."""
    lit: Pixels = pixels * (1 - 0.4 * _ramp(pixels.shape[:2], random)[..., None])
    return lit


def noisy(pixels: Pixels, random: Random) -> Pixels:
    """Gaussian noise of 2 to 10 % of the full range, in each channel."""
    level = np.float32(random.uniform(0.02, 0.1))
    noisy: Pixels = pixels + level * random.standard_normal(pixels.shape, np.float32)
    return noisy


def _ramp(shape: tuple[int, ...], random: Random) -> Pixels:
    """0 at one end of the page, 1 at the other."""
    angle = random.uniform(0, 2 * np.pi)
    rows, columns = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    ramp = np.sin(angle) * rows + np.cos(angle) * columns
    scaled: Pixels = ((ramp - ramp.min()) / np.ptp(ramp)).astype(np.float32)
    return scaled


def as_image(pixels: Pixels) -> Image.Image:
    return Image.fromarray((pixels.clip(0, 1) * 255).round().astype(np.uint8))


def as_png(pixels: Pixels) -> bytes:
    return encode(as_image(pixels), "PNG", compress_level=1)
