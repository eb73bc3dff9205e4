"""Pages with what is around and behind them on photographs and scans: a table, a scanner's edge, a printed box, lines.

Like `pages`, a scene depends on nothing but the digit, the kind of scene and the seed.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from kd_cli.digits.decode import Pixels
from tests.digits.images import encode
from tests.digits.pages import Drawing, Random, as_image, as_png, lit, noisy, place

WIDTHS = (100, 1000)
"""Pixels of the paper."""


def draw(digit: NDArray[np.uint8], kind: str, seed: int) -> bytes:
    """The file of one scene: ``digit``, (28, 28) as in MNIST, in a scene of this kind."""
    random = np.random.default_rng([seed, 100 + list(KINDS).index(kind)])
    return KINDS[kind](digit, random)


def _box(digit: NDArray[np.uint8], random: Random) -> bytes:
    """A printed box with the digit in it, on a larger page."""
    drawing = place(digit, random, WIDTHS)
    height, width = drawing.cover.shape
    line = max(1, round(random.uniform(0.006, 0.04) * min(height, width)))
    gap, margin = 2 + line // 2, random.integers(line + 2, max(height, width), size=4)
    inside = np.pad(drawing.pixels, ((gap, gap), (gap, gap), (0, 0)), mode="edge")
    colour = np.float32(random.uniform(0, 0.45)) if random.random() < 0.7 else random.random(3, np.float32) / 2
    framed = _surround(inside, (line,) * 4, colour)
    page = _surround(framed, margin, drawing.paper)
    if random.random() < 0.5:
        page = _turned(page, drawing.paper, random.uniform(-4, 4))
    return _saved(page, random)


def _strip(digit: NDArray[np.uint8], random: Random) -> bytes:
    """A dark strip along one side, as of a table, or of the hand that holds the paper."""
    pixels = place(digit, random, WIDTHS).pixels
    side = int(random.integers(4))
    turned = np.rot90(pixels, side)
    thickness = random.uniform(0.03, 0.35) * len(turned)
    slope = random.uniform(-0.1, 0.1) * len(turned) / turned.shape[1] if random.random() < 0.5 else 0.0
    edge = thickness + slope * np.arange(turned.shape[1])
    rows = int(np.ceil(max(2, edge.max()))) + 1
    strip = np.arange(rows)[:, None] < edge
    surface = _surface((rows, turned.shape[1]), random)
    paper = np.repeat(turned[:1], rows, axis=0) * 0 + np.median(pixels, axis=(0, 1))
    page = np.concatenate([np.where(strip[..., None], surface, paper), turned])
    return _saved(np.rot90(page, -side), random)


def _table(digit: NDArray[np.uint8], random: Random) -> bytes:
    """A sheet that lies straight on a dark table; now and then all is the other way round, light for dark."""
    pixels = place(digit, random, WIDTHS).pixels
    return _saved(_on_table(pixels, np.ones(pixels.shape[:2], np.float32), random), random)


def _turned_sheet(digit: NDArray[np.uint8], random: Random) -> bytes:
    """A sheet that lies on a dark table, turned by up to 15 degrees."""
    drawing = place(digit, random, WIDTHS)
    angle = random.uniform(3, 15) * random.choice([-1, 1])
    sheet = _turned(drawing.pixels, drawing.paper, angle, expand=True)
    there = Image.new("L", drawing.cover.shape[::-1], 255).rotate(angle, Image.Resampling.BICUBIC, expand=True)
    return _saved(_on_table(sheet, np.asarray(there, np.float32) / 255, random), random)


def _scanner_edge(digit: NDArray[np.uint8], random: Random) -> bytes:
    """The black that a scanner sees beside the paper, at one to four sides, as wedges where the paper lay askew."""
    pixels = place(digit, random, WIDTHS).pixels
    black = np.float32(random.uniform(0, 0.1))
    sides = random.permutation([1, 1, 0, 0] if random.random() < 0.3 else [1, 0, 0, 0])
    if random.random() < 0.2:
        sides = np.ones(4, int)
    widths = np.ceil(sides * random.uniform(0.01, 0.08, 4) * min(pixels.shape[:2])).astype(int)
    page = _surround(pixels, widths, black)
    if random.random() < 0.5:
        page = _turned(page, black, random.uniform(-2, 2))
    return _saved(page, random)


def _tight(digit: NDArray[np.uint8], random: Random) -> bytes:
    """Cut out so closely that the ink touches all four borders; dark on light or light on dark."""
    rows, columns = (np.nonzero((digit > 64).any(axis=axis))[0] for axis in (1, 0))
    ink = Image.fromarray(digit[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
    scale = np.exp(random.uniform(*np.log((16, 600)))) / max(ink.size)
    size = max(3, round(ink.width * scale)), max(3, round(ink.height * scale))
    cover = np.asarray(ink.resize(size, Image.Resampling.BICUBIC), np.float32)[..., None] / 255
    paper, pen = np.float32(random.uniform(0.75, 1)), np.float32(random.uniform(0, 0.25))
    pixels = np.repeat(paper * (1 - cover) + pen * cover, 3, axis=2)
    return as_png(pixels if random.random() < 0.5 else 1 - pixels)


def _bitmap(digit: NDArray[np.uint8], random: Random) -> bytes:
    """16x16 black and white pixels that the digit fills whatever its proportions, enlarged or not."""
    rows, columns = (np.nonzero((digit > 64).any(axis=axis))[0] for axis in (1, 0))
    ink = Image.fromarray(digit[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
    small = np.asarray(ink.resize((16, 16), Image.Resampling.BOX)) > 110
    black_on_white = random.random() < 0.5
    image = Image.fromarray(np.where(small ^ black_on_white, 255, 0).astype(np.uint8))
    side = int(random.choice([16, 64, 300]))
    return encode(image.resize((side, side), random.choice([Image.Resampling.NEAREST, Image.Resampling.BICUBIC])))


def _ruled_photo(digit: NDArray[np.uint8], random: Random) -> bytes:
    return _on_lined_paper(digit, random, squared=False)


def _squared_photo(digit: NDArray[np.uint8], random: Random) -> bytes:
    return _on_lined_paper(digit, random, squared=True)


def _faint(digit: NDArray[np.uint8], random: Random) -> bytes:
    """A hard pencil, 12 to 30 % darker than the paper, in uneven light and with the noise of a small camera."""
    drawing = place(digit, random, WIDTHS)
    ink = drawing.paper * np.float32(1 - random.uniform(0.12, 0.3))
    pixels = lit(Drawing(drawing.cover, drawing.paper, ink).pixels, random)
    pixels = pixels + np.float32(0.01) * random.standard_normal(pixels.shape, np.float32)
    return encode(as_image(pixels), "JPEG", quality=85)


def _vignette(digit: NDArray[np.uint8], random: Random) -> bytes:
    """Light that falls off towards the corners, to between a fifth and a half of that in the middle."""
    pixels = place(digit, random, WIDTHS).pixels
    pixels = _photographed(pixels * _fall_off(pixels.shape[:2], random.uniform(0.5, 0.8), random), random)
    return encode(as_image(pixels), "JPEG", quality=80)


KINDS: dict[str, Callable[[NDArray[np.uint8], Random], bytes]] = {
    "printed box": _box,
    "dark strip": _strip,
    "dark table": _table,
    "turned sheet": _turned_sheet,
    "scanner's edge": _scanner_edge,
    "tight crop": _tight,
    "16x16 bitmap": _bitmap,
    "ruled photo": _ruled_photo,
    "squared photo": _squared_photo,
    "faint": _faint,
    "vignette": _vignette,
}


def _on_lined_paper(digit: NDArray[np.uint8], random: Random, squared: bool) -> bytes:
    """Printed lines, sloped as the paper was held, in uneven light."""
    drawing = place(digit, random, (250, 1000))
    height, width = drawing.cover.shape
    spacing = max(8.0, height / random.uniform(6, 16))
    slope, thickness = np.tan(np.radians(random.uniform(-5, 5))), max(1.0, height / 300)
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    strength = np.float32(random.uniform(0.25, 0.6))
    for across in [rows + slope * columns, columns - slope * rows][: 1 + squared]:
        line = (across + random.uniform(0, spacing)) % spacing < thickness
        drawing = Drawing(
            drawing.cover, drawing.paper * (1 - strength * line[..., None] * (0.6, 0.5, 0.2)), drawing.ink
        )
    shade = _fall_off((height, width), random.uniform(0.1, 0.4), random)
    pixels = _photographed(lit(drawing.pixels.astype(np.float32), random) * shade, random)
    return encode(as_image(pixels), "JPEG", quality=75)


def _photographed(pixels: Pixels, random: Random) -> Pixels:
    """A little out of focus, and with a camera's noise."""
    blurred = ndimage.gaussian_filter(pixels, (0.7, 0.7, 0))
    taken: Pixels = blurred + np.float32(0.015) * random.standard_normal(pixels.shape, np.float32)
    return taken


def _fall_off(shape: tuple[int, int], darkness: float, random: Random) -> Pixels:
    """1 somewhere about the middle, less by ``darkness`` in the farthest corner; (height, width, 1)."""
    rows, columns = (np.linspace(-1, 1, side, dtype=np.float32) + random.uniform(-0.2, 0.2) for side in shape)
    squared = rows[:, None] ** 2 + columns[None] ** 2
    shade: Pixels = (1 - darkness * squared / squared.max())[..., None].astype(np.float32)
    return shade


def _on_table(sheet: Pixels, there: NDArray[np.floating], random: Random) -> Pixels:
    """A sheet, where it is there, on a table that shows at all four sides."""
    widths = np.ceil(random.uniform(0.04, 0.5, 4) * min(sheet.shape[:2])).astype(int)
    (top, bottom), (left, right) = widths[:2], widths[2:]
    there = np.pad(there, ((top, bottom), (left, right)))[..., None]
    sheet = np.pad(sheet, ((top, bottom), (left, right), (0, 0)))
    scene = sheet * there + _surface(there.shape[:2], random) * (1 - there)
    return 1 - scene if random.random() < 0.2 else scene


def _surface(shape: tuple[int, ...], random: Random) -> Pixels:
    """Dark and uneven, of any colour, with a grain."""
    colour = random.uniform(0.05, 0.45) * random.uniform(0.6, 1, 3)
    grain = ndimage.gaussian_filter(random.standard_normal(shape), (0.7, random.uniform(1, 12)))
    grain *= random.uniform(0, 0.06) / max(float(grain.std()), 1e-6)
    surface: Pixels = (colour + grain[..., None]).clip(0, 1).astype(np.float32)
    return surface


def _surround(
    pixels: Pixels, widths: NDArray[np.int64] | tuple[int, ...], colour: NDArray[np.floating] | float
) -> Pixels:
    """With margins of this colour at the top, the bottom, the left and the right."""
    top, bottom, left, right = widths
    there = np.pad(np.ones(pixels.shape[:2], bool), ((top, bottom), (left, right)))[..., None]
    surrounded: Pixels = np.where(there, np.pad(pixels, ((top, bottom), (left, right), (0, 0))), colour).astype(
        np.float32
    )
    return surrounded


def _turned(pixels: Pixels, colour: NDArray[np.floating] | float, angle: float, expand: bool = False) -> Pixels:
    fill = tuple(int(level) for level in (np.broadcast_to(colour, 3) * 255).round())
    image = as_image(pixels).rotate(angle, Image.Resampling.BICUBIC, expand=expand, fillcolor=fill)
    turned: Pixels = np.asarray(image, np.float32) / np.float32(255)
    return turned


def _saved(pixels: Pixels, random: Random) -> bytes:
    """As it is, or as a camera or a scanner would have it: lit, noisy, compressed."""
    if random.random() < 0.5:
        return as_png(pixels)
    if random.random() < 0.5:
        pixels = lit(pixels, random)
    if random.random() < 0.3:
        pixels = noisy(pixels, random)
    return encode(as_image(_photographed(pixels, random)), "JPEG", quality=int(random.integers(50, 95)))
