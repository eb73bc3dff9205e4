"""Draw a digit, and see what teacher and student predict after every stroke."""

import streamlit as st

from kd_cli.app import canvas, loaded, predictions
from kd_cli.app.navigation import Page
from kd_cli.config import Role
from kd_cli.networks.checkpoint import Checkpoint


def show() -> None:
    """The page Draw."""
    st.title("Draw a digit")
    with loaded.failures_shown():
        networks = loaded.pair_for_images()
    _draw_and_predict(networks)
    loaded.show_sources(networks.values())


@st.fragment
def _draw_and_predict(networks: dict[Role, Checkpoint]) -> None:
    """Runs alone when a stroke ends: the rest of the page stays as it is."""
    left, right = st.columns([2, 3], gap="large")
    with loaded.failures_shown():
        with left:
            drawing = canvas.draw("canvas")
        with right:
            if drawing is None:
                st.html(
                    '<p class="kd-verdict">Draw one digit, as large as you like. Both networks predict it after every '
                    "stroke.</p>"
                )
            else:
                found = predictions.predict_file(drawing, "the drawing", networks)
                st.html(predictions.as_html(found, "Your drawing"))


PAGE = Page(show, "Draw", "draw")
