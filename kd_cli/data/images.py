"""Image files -> uint8 arrays of one shape, decoded side by side."""

import contextlib
import logging
import signal
import warnings
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps
from tqdm import tqdm

from kd_cli.config import KdError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
"""What is decoded. Pillow knows more, some of which start other programs (EPS) or are seldom looked after."""

MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
"""Pillow's modes by their number of channels."""

MOST_PIXELS = 224
"""The longer side of images whose size was not asked for: larger ones are scaled down."""

BLOCK, BLOCK_BYTES = 256, 2**22
"""Images, and bytes of pixels, that are handed over at a time, at most."""

FEW = 2_000
"""Images that are decoded before processes for them would have started."""

SAMPLE = 500
"""Files whose headers are looked at to guess the shape of all."""

Shape = tuple[int, int, int]
"""(channels, height, width): one channel for grey, three for colour."""

# Pillow reports oddities in a file through a logger of its own.
logging.getLogger("PIL").setLevel(logging.CRITICAL + 1)


@dataclass
class Survey:
    """What is known of images that were looked at: their sizes, whether one has colour, and which cannot be read."""

    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    colour: bool = False
    unreadable: list[str] = field(default_factory=list)

    def note(self, look: tuple[tuple[int, int], bool]) -> None:
        """Count an image that could be read."""
        size, grey = look
        self.sizes[size] += 1
        self.colour = self.colour or not grey

    def add(self, other: "Survey") -> None:
        """Count what another one counted."""
        self.sizes += other.sizes
        self.colour = self.colour or other.colour
        self.unreadable += other.unreadable

    def shape(self, image_size: int | None) -> Shape:
        """Grey where every image is; of the size that was asked for, else of the commonest one, at most 224."""
        channels = 3 if self.colour else 1
        if image_size or not self.sizes:
            return channels, image_size or MOST_PIXELS, image_size or MOST_PIXELS
        most = max(self.sizes.values())
        tied = sorted(size for size, count in self.sizes.items() if count == most)
        height, width = tied[len(tied) // 2]
        scale = min(1, MOST_PIXELS / max(height, width))
        return channels, max(1, round(scale * height)), max(1, round(scale * width))


def survey_sample(paths: list[str]) -> Survey:
    """Look at the headers of a few of the files."""
    survey = Survey()
    with _bombs_refused():
        for path in paths[:: max(1, len(paths) // SAMPLE)]:
            try:
                with Image.open(path, formats=FORMATS) as image:
                    survey.note(_look(image))
            except Exception:  # a damaged file makes Pillow raise nearly anything; decoding it will tell
                continue
    return survey


def read_image(source: Path | str | BinaryIO, shape: Shape, survey: Survey | None = None) -> NDArray[np.uint8]:
    """Decode an image file: its first frame, upright, over white where it is transparent.

    An image of another size is scaled until it covers the shape, and its middle is cut out: proportions stay.

    Returns:
        uint8, of the shape.

    Raises:
        Exception: whatever Pillow raises; `OSError` mostly.
    """
    with Image.open(source, formats=FORMATS) as image:
        look = _look(image)
        pixels = to_shape(image, shape)
    if survey is not None:
        survey.note(look)
    return pixels


def to_shape(image: Image.Image, shape: Shape) -> NDArray[np.uint8]:
    """The pixels of an image that was opened and not decoded yet, as `read_image` gives them."""
    channels, height, width = shape
    enough = 2 * max(height, width)
    if min(image.size) >= 2 * enough:
        image.draft(None, (enough, enough))  # a JPEG is decoded at a half, a quarter or an eighth of its size
    if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
        ImageOps.exif_transpose(image, in_place=True)
    flat = _flatten(image, MODES[channels])
    if flat.size != (width, height):
        flat = ImageOps.fit(flat, (width, height))
    pixels: NDArray[np.uint8] = np.asarray(flat).reshape(height, width, channels).transpose(2, 0, 1)
    return pixels


def decode(paths: list[str], shape: Shape, survey: Survey, bar: "tqdm[Any]") -> Iterator[NDArray[np.uint8]]:
    """Decode files in blocks, (n, C, H, W), in their order, a few blocks ahead of whoever takes them.

    What was seen is added to ``survey``. An image that cannot be read is black.

    Raises:
        KdError: a process that decodes died.
    """
    size = min(BLOCK, max(1, BLOCK_BYTES // int(np.prod(shape))))
    blocks = (paths[start : start + size] for start in range(0, len(paths), size))
    ahead: deque[Future[tuple[NDArray[np.uint8], Survey]]] = deque()
    pool, workers = _make_pool(len(paths))
    try:
        with _bombs_refused():
            while True:
                while len(ahead) < 3 * workers and (block := next(blocks, None)) is not None:
                    ahead.append(pool.submit(_decode_block, block, shape))
                if not ahead:
                    return
                images, seen = ahead.popleft().result()
                survey.add(seen)
                bar.update(len(images))
                yield images
    except BrokenExecutor as error:
        raise KdError("a process that decodes images died: is there enough memory? try again") from error
    finally:
        for future in ahead:
            future.cancel()
        pool.shutdown(wait=False)


def _make_pool(images: int) -> tuple[Executor, int]:
    """Processes, as much of the work on a small image is Python's; threads where starting them would take longer."""
    if images < FEW:
        return ThreadPoolExecutor(2), 2
    from joblib import cpu_count
    from joblib.externals.loky import ProcessPoolExecutor

    workers = min(16, cpu_count())
    # Idle for long they end, so that they do not outlive this process if it is killed.
    return ProcessPoolExecutor(workers, timeout=30, initializer=_start_worker), workers


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who started it hears it, and ends it
    _refuse_bombs()


def _decode_block(paths: list[str], shape: Shape) -> tuple[NDArray[np.uint8], Survey]:
    images, survey = np.zeros((len(paths), *shape), np.uint8), Survey()
    for row, path in enumerate(paths):
        try:
            images[row] = read_image(path, shape, survey)
        except Exception:  # a damaged file makes Pillow raise nearly anything
            survey.unreadable.append(path)
    return images, survey


def _look(image: Image.Image) -> tuple[tuple[int, int], bool]:
    """Height and width of an image once it is upright, and whether it is grey. Its mode decides: see Pillow's list."""
    turned = image.getexif().get(ExifTags.Base.Orientation, 1) > 4
    grey = image.mode[0] in "1LIF" and image.mode != "LAB"
    return image.size if turned else image.size[::-1], grey


def _flatten(image: Image.Image, mode: str) -> Image.Image:
    """Bring any mode to 8 bits of grey or RGB: more bits keep their upper ones, transparency shows white paper."""
    if image.mode[0] in "IF":
        values = np.nan_to_num(np.asarray(image, np.float32))
        white = 65535.0 if image.mode[0] == "I" else 1.0 if values.max() <= 1 else 255.0
        return Image.fromarray((values.clip(0, white) * (255 / white)).astype(np.uint8)).convert(mode)
    if image.has_transparency_data and mode in ("L", "RGB"):
        seen = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", seen.size, "white"), seen).convert(mode)
    return image if image.mode == mode else image.convert(mode)


@contextlib.contextmanager
def _bombs_refused() -> Iterator[None]:
    """Pillow's warnings stay off the terminal; that of more than 89 million pixels is an error."""
    with warnings.catch_warnings():
        _refuse_bombs()
        yield


def _refuse_bombs() -> None:
    warnings.simplefilter("ignore")
    warnings.simplefilter("error", Image.DecompressionBombWarning)
