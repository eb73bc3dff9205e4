"""The image files that a user means: files, folders, patterns, standard input; and what their names say they show."""

import glob
import io
import itertools
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from kd_cli.config import KdError
from kd_cli.data.dataset import DataInfo
from kd_cli.digits.boxes import Box
from kd_cli.digits.decode import SUFFIXES, read_resized
from kd_cli.digits.mnist_format import read_digits, read_source

STDIN = "-"
"""Stands for the bytes on standard input where a file is asked for."""

LARGEST_STDIN = 64 * 2**20
"""Bytes taken from standard input at most."""

MAX_IMAGES = 100_000
"""In one folder, or of one pattern."""

Found = tuple[str, str | None]
"""A file to read, and why it cannot be."""


def find_images(sources: Sequence[str]) -> Iterator[Found]:
    """Each file to read; and an error in place of what is not there, and of folders that cannot be read."""
    for source in sources:
        if source == STDIN or os.path.isfile(source):
            yield source, None
        elif os.path.isdir(source):
            yield from _walk(source)
        elif glob.has_magic(source):  # quoted, or on Windows, whose shells leave patterns as they are
            yield from _match(source)
        else:
            yield source, None  # reading it says what is wrong


def open_image(file: str) -> tuple[Path | BinaryIO, str]:
    """A file as Pillow opens it, and what messages call it.

    Raises:
        KdError: standard input is closed, fails, or is too large.
    """
    if file != STDIN:
        return Path(file), file
    if sys.stdin is None:
        raise KdError("cannot read standard input: it is closed; give a file")
    try:
        content = sys.stdin.buffer.read(LARGEST_STDIN + 1)
    except OSError as error:
        raise KdError(f"cannot read standard input: {error.strerror or error}; give a file") from error
    if len(content) > LARGEST_STDIN:
        raise KdError(f"cannot read standard input: more than {LARGEST_STDIN >> 20} MB; make the image smaller")
    return io.BytesIO(content), "standard input"


@dataclass(frozen=True)
class Seen:
    """What networks get of an image file, or of one digit in it.

    Attributes:
        pixels: uint8 (channels, height, width).
        digit: the digit's number, in the order in which they are read; None if the data is not of digits.
        digits: how many digits the file shows, likewise.
        box: where the digit is, in pixels of the upright image, likewise.
    """

    pixels: NDArray[np.uint8]
    digit: int | None = None
    digits: int | None = None
    box: Box | None = None


def see(source: Path | BinaryIO, name: str, data: DataInfo, every_digit: bool = False) -> list[Seen]:
    """What networks that were trained on such data get of an image file.

    Args:
        source: a path, or an open file that can be sought in.
        name: what messages call it.
        data: handwriting is read as ink on paper and brought to the form of MNIST's images; of anything else, the whole
            image is read as those of a folder are.
        every_digit: of an image that shows several digits, give each, and not only the one with most ink.

    Raises:
        KdError: it is no image, or damaged, too large or, of handwriting, blank.
    """
    if data.is_digits:
        digits = read_digits(source, name, every_digit)
        return [Seen(each.image[np.newaxis], each.number, each.count, each.box) for each in digits]
    if data.is_handwriting:
        return [Seen(read_source(source, name)[np.newaxis])]
    return [Seen(read_resized(source, name, data.shape))]


def label_from_name(file: str, data: DataInfo) -> str | None:
    """The class that a file's folder is named after (``cat/a.png``).

    In data of handwriting, also the digit that the folder is (``7/a.png``) or that stands at the beginning of the
    file's own name: alone (``7.png``) or before what is neither letter nor digit (``7-a.png``); 12.png shows no 1.
    """
    path = Path(file)
    if path.parent.name in data.classes:
        return path.parent.name
    found = re.fullmatch("[0-9]", path.parent.name) or re.match(r"[0-9](?![^\W_])", path.name)
    if not found or not data.is_handwriting or int(found[0]) >= len(data.classes):
        return None
    return data.classes[int(found[0])]


def _walk(folder: str) -> Iterator[Found]:
    """All images in a folder and below it. Links to folders are not followed, as they may lead in circles."""
    errors: list[OSError] = []
    folders = tqdm(
        os.walk(folder, onerror=errors.append), "Looking for images", unit=" folders", disable=None, leave=False
    )
    files = (Path(place, name) for place, _, names in folders for name in names)
    images = (path for path in files if path.suffix.lower() in SUFFIXES and os.path.isfile(path))
    yield from _list(images, folder, errors, f"no images in {folder}: it has no {', '.join(sorted(SUFFIXES))} files")


def _match(pattern: str) -> Iterator[Found]:
    """All files that match a pattern. Folders that cannot be read match nothing, unsaid by `glob`."""
    files = (Path(match) for match in _glob(pattern) if os.path.isfile(match))
    folders = sorted(filter(os.path.isdir, _glob(os.path.dirname(pattern))))
    errors = [OSError(0, "Permission denied", folder) for folder in folders if not os.access(folder, os.R_OK | os.X_OK)]
    yield from _list(files, pattern, errors, f"no image matches {pattern}: check the pattern")


def _glob(pattern: str) -> Iterator[str]:
    """As `glob.iglob`, whose ``**`` would follow links that lead in circles."""
    parts = re.split(r"(?:^|(?<=[/\\]))\*\*(?:[/\\]|$)", pattern, maxsplit=1)
    if len(parts) == 1:
        yield from glob.iglob(pattern)
        return
    for root in glob.iglob(parts[0]) if parts[0] else ["."]:
        for place, folders, _ in os.walk(root):
            folders[:] = [name for name in folders if not name.startswith(".")]
            if not parts[1]:
                yield place
            yield from _glob(os.path.join(glob.escape(os.path.normpath(place)), parts[1] or "*"))


def _list(files: Iterable[Path], source: str, errors: Sequence[OSError], nothing: str) -> Iterator[Found]:
    """What a folder or a pattern stands for: its images in order, the folders in it that cannot be read, or an error.

    ``errors`` may grow while ``files`` are found.
    """
    found = sorted(set(itertools.islice(files, MAX_IMAGES + 1)))
    if len(found) > MAX_IMAGES:
        yield source, f"more than {MAX_IMAGES:,} images in {source}: name a folder, or a pattern, that has fewer"
        return
    yield from ((str(path), None) for path in found)
    for error in errors:
        reason = f"cannot read folder {error.filename}: {error.strerror}; check its permissions, or leave it out"
        yield error.filename, reason
    if not found and not errors:
        yield source, nothing
