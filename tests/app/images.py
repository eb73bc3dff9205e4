"""Image files for tests of the page, and what a page shows."""

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def as_png(pixels: NDArray[np.uint8]) -> bytes:
    """The content of a PNG file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def html(page: Any) -> str:
    """All HTML of a page that ran without an exception."""
    assert not page.exception
    return "\n".join(each.proto.body for each in page.get("html"))


def plain(message: Any) -> str:
    """What a message on the page says, without the signs that keep Markdown from being Markdown."""
    return str(message.value).replace("\\", "")
