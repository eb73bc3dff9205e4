"""What the networks saw, as PNG files that can be told from a user's own."""

import io
import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from kd_cli.files import require_no_input, require_output

MAKER = "kd image"


def encode(image: NDArray[np.uint8]) -> bytes:
    """The content of a PNG file that says who made it; ``image`` is (channels, height, width), of 1 to 4 channels."""
    about = PngInfo()
    about.add_text("Software", MAKER)
    png = io.BytesIO()
    pixels = image[0] if len(image) == 1 else np.ascontiguousarray(np.moveaxis(image, 0, -1))
    Image.fromarray(pixels).save(png, "PNG", pnginfo=about)
    return png.getvalue()


def is_ours(file: Path | BinaryIO) -> bool:
    """Whether a file holds what `encode` gives."""
    if not isinstance(file, Path):
        file.seek(0)
        return f"Software\0{MAKER}".encode() in file.read(200)
    try:
        with file.open("rb") as opened:
            return is_ours(opened)
    except OSError:
        return False


def choose_places(
    names: Sequence[str | None], folder: Path | None, inputs: Iterable[Path], force: bool
) -> list[Path | None]:
    """Where in a folder to write images of these names, with a number where a name is taken; None stays None.

    Raises:
        KdError: a place cannot be written, or a file of the user's is there; names it.
    """
    if folder is None:
        return [None] * len(names)
    places: list[Path | None] = []
    taken: set[str] = set()
    for stem in names:
        if stem is None:
            places.append(None)
            continue
        numbered = itertools.chain([stem], (f"{stem}-{number}" for number in itertools.count(2)))
        name = next(name for name in numbered if name.lower() not in taken)  # some file systems take A.png for a.png
        taken.add(name.lower())
        places.append(folder / f"{name}.png")
    chosen = [place for place in places if place]
    require_no_input(chosen, inputs)
    for place in chosen:
        require_output(place, is_ours, (), force)
    return places
