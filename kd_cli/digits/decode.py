"""Image files -> pixels, with everything settled that depends on how a file stores them, and in bounded memory.

A file is not to be trusted: it may be cut off, hostile, or so large that decoding it would fill the memory.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import (
    ExifTags,
    Image,
    ImageOps,
    TiffImagePlugin,  # noqa: F401  asked for a format that is not imported yet, Pillow would import all it knows
    UnidentifiedImageError,
    WebPImagePlugin,  # noqa: F401
)

from kd_cli.config import KdError
from kd_cli.data.images import MODES, to_shape
from kd_cli.files import require_regular

Pixels = NDArray[np.float32]
"""Values from 0 to 1: (height, width, 3) for a page in RGB, (height, width) for ink and contrast."""

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
"""What is decoded. Pillow knows many more, some of which start other programs (EPS) or are seldom looked after."""

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
"""Names of files that are read where a folder is given."""

PAGE_SIDE = 640
"""Pixels that a page keeps on its longer side, at most: a digit of a tenth of the page is still 30 to 60 of them."""

MEMORY_LIMIT = 200 * 2**20
"""Bytes that decoding may take, as estimated; what is done with the pixels afterwards takes a few MB."""

STRIP = 256 * 1024
"""Pixels that are converted at a time, so that the image is never held twice."""

LYING = range(5, 9)
"""Orientations of images that are stored with their width down."""

FULL_SCALES = (1.0, 255.0, 4095.0, 65535.0)
"""White, in images whose mode does not say it: fractions, and 8, 12 and 16 bits."""

# Pillow reports oddities in a file through a logger of its own; what matters of them becomes a KdError.
logging.getLogger("PIL").setLevel(logging.CRITICAL + 1)


def read_page(source: Path | BinaryIO, name: str) -> Pixels:
    """Decode an image file: its first frame, upright, over white where it is transparent, at most 640 pixels long.

    Args:
        source: a path, or an open file that can be sought in.
        name: what error messages call it.

    Returns:
        (height, width, 3), RGB from 0 to 1.

    Raises:
        KdError: there is no such file, it is not an image, it is damaged, or it has too many pixels.
    """
    return read_with_size(source, name)[0]


def read_with_size(source: Path | BinaryIO, name: str) -> tuple[Pixels, tuple[int, int]]:
    """The same, and the width and the height that the image has in the file, upright.

    Raises:
        KdError: as `read_page`.
    """
    with _failures_named(source, name):
        return _decode(source, name)


def read_resized(source: Path | BinaryIO, name: str, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Decode an image file as those of a data set are, see `to_shape`, into ``shape``, (channels, height, width).

    Raises:
        KdError: as `read_page`; or no image file has so many channels.
    """
    if shape[0] not in MODES:
        raise KdError(f"cannot read {name} as an image of {shape[0]} channels: no image file has so many")
    with _failures_named(source, name), Image.open(source, formats=FORMATS) as image:
        _require_modest(image, name)
        return to_shape(image, shape)


@contextmanager
def _failures_named(source: Path | BinaryIO, name: str) -> Iterator[None]:
    try:
        if isinstance(source, Path):
            require_regular(source)
        yield
    except KdError:
        raise
    except FileNotFoundError as error:
        raise KdError(f"no image {name}: check the path") from error
    except UnidentifiedImageError as error:
        raise KdError(f"cannot read {name}: it is not a PNG, JPEG, WebP, BMP, GIF or TIFF file") from error
    except Image.DecompressionBombError as error:
        raise KdError(f"cannot read {name}: it has too many pixels; make it smaller") from error
    except OSError as error:
        if error.strerror is None:  # Pillow's own
            raise _damaged(name) from error
        raise KdError(f"cannot read {name}: {error.strerror}; check the path") from error
    except Exception as error:  # a damaged file makes Pillow's decoders raise nearly anything
        raise _damaged(name) from error


def _damaged(name: str) -> KdError:
    return KdError(f"cannot read {name}: it is damaged; use a whole PNG, JPEG, WebP, BMP, GIF or TIFF file")


def _decode(source: Path | BinaryIO, name: str) -> tuple[Pixels, tuple[int, int]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(source, formats=FORMATS) as image:
            _require_modest(image, name)
            full = image.size
            drafted = image.draft(None, (PAGE_SIDE, PAGE_SIDE))  # a JPEG is decoded at a half, a quarter or an eighth
            image.load()
            width, height = full if drafted else image.size  # Pillow turns a TIFF file as it loads it
            small = _shrink(image)
            # Turned after it is shrunk: turning an image of full size would hold it twice.
            orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
            small.getexif()[ExifTags.Base.Orientation] = orientation
            ImageOps.exif_transpose(small, in_place=True)
            return _to_rgb(small), (height, width) if orientation in LYING else (width, height)


def _require_modest(image: Image.Image, name: str) -> None:
    """Estimate from the header, before anything is decoded, how much memory decoding takes."""
    stored = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2}.get(image.mode, 4)
    if image.format in ("JPEG", "MPO"):
        # Decoded at an eighth of the size, if need be; only a progressive file is held whole, as coefficients.
        stored = 6 if image.info.get("progressive") else 1
    # WebP's decoder keeps two canvases and hands over a third, libtiff may read the whole image as one strip, ...
    copies = {"WEBP": 5, "TIFF": 2, "GIF": 2}.get(image.format or "", 1)
    if image.width * image.height * stored * copies > MEMORY_LIMIT:
        raise KdError(
            f"cannot read {name}: {image.width:,} x {image.height:,} pixels are too many; make the image smaller"
        )


def _shrink(image: Image.Image) -> Image.Image:
    """Average squares of pixels, a strip of rows at a time, in mode F for grey of any depth, RGBa or RGB."""
    factor = -(-max(image.size) // PAGE_SIDE)
    alpha = "transparency" in image.info or "A" in image.getbands() or "a" in image.getbands()
    # Premultiplied (RGBa), so that the colour of what cannot be seen has no part in the average.
    modes = ["F"] if image.mode.startswith("I") or image.mode == "F" else ["RGBA", "RGBa"] if alpha else ["RGB"]
    small = Image.new(modes[-1], (-(-image.width // factor), -(-image.height // factor)))
    rows = max(1, STRIP // image.width // factor) * factor
    for top in range(0, image.height, rows):
        strip = image.crop((0, top, image.width, min(top + rows, image.height)))
        for mode in modes:
            strip = strip.convert(mode)
        small.paste(strip.reduce(factor), (0, top // factor))
    return small


def _to_rgb(image: Image.Image) -> Pixels:
    """Bring modes F, RGB and RGBa to RGB from 0 to 1, over white."""
    page: Pixels = np.asarray(image, np.float32)
    if image.mode == "F":
        page = np.nan_to_num(page, posinf=0, neginf=0)
        page = page - min(0, page.min())
        white = next((scale for scale in FULL_SCALES if page.max() <= scale), page.max())
        return np.repeat((page / white)[..., None], 3, axis=2)
    page /= 255
    if image.mode == "RGBa":
        paper = 1 - page[..., 3:]
        over_white = page[..., :3] + paper
        # White ink on nothing would vanish.
        page = over_white if np.ptp(over_white) > 0.1 else page[..., :3]
    return page
