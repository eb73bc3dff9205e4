"""Draw a digit, and see what teacher and student make of it after every stroke."""

from typing import Any

import streamlit as st

from kd_cli.app import canvas, loaded, readings, show
from kd_cli.checkpoint import Checkpoint
from kd_cli.settings import Role

PAGE: dict[str, Any] = {"title": "Draw", "icon": ":material/draw:", "default": True}


def page() -> None:
    """The page Draw."""
    st.title("Draw a digit")
    with loaded.failures_shown():
        networks = loaded.to_try()
    _read(networks)
    st.html(show.sources(networks.values()))


@st.fragment
def _read(networks: dict[Role, Checkpoint]) -> None:
    """Runs alone when a stroke ends: the rest of the page stays as it is."""
    left, right = st.columns([2, 3], gap="large")
    with loaded.failures_shown():
        with left:
            drawing = canvas.draw("canvas")
        with right:
            if drawing is None:
                st.html('<p class="kd-verdict">Draw one digit, as large as you like. Both networks read along.</p>')
            else:
                st.html(readings.as_html(readings.read(drawing, "the drawing", networks), "Your drawing"))
