"""The drawing area: a component on Streamlit's second components API, and the image that comes from it."""

import base64
import binascii
from functools import cache
from pathlib import Path
from typing import Any

import streamlit as st

from kd_cli.config import KdError
from kd_cli.html.files import read_text

PREFIX = "data:image/png;base64,"

LARGEST = 2**20
"""Characters of a drawing. The canvas sends a hundredth of that, but anybody may send something else."""


def draw(key: str) -> bytes | None:
    """Show the drawing area; the drawing as a PNG file, None while there is none.

    Raises:
        KdError: what came is no drawing of this component.
    """
    value = _component()(key=key, on_drawing_change=lambda: None).get("drawing")
    if not value:
        return None
    if not (isinstance(value, str) and value.startswith(PREFIX) and len(value) <= LARGEST):
        raise KdError("the drawing did not arrive as an image: clear it and draw again")
    try:
        return base64.b64decode(value[len(PREFIX) :], validate=True)
    except binascii.Error as error:
        raise KdError("the drawing arrived damaged: clear it and draw again") from error


def _component() -> Any:
    # Registered anew every time: what is cached outlives the server that it was registered with.
    html, css = read_text("board.html"), read_text("board.css")
    return st.components.v2.component("kd_canvas", html=html, css=css, js=_read_module())


@cache
def _read_module() -> str:
    return read_text("board.js") + Path(__file__).with_suffix(".js").read_text(encoding="utf-8")
