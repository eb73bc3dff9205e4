"""The pages, in the order in which the navigation has them."""

from streamlit.navigation.page import StreamlitPage

from kd_cli.app import compare, draw, explain, loaded, samples, train, upload

ALL = (draw.PAGE, upload.PAGE, samples.PAGE, compare.PAGE, explain.PAGE, train.PAGE)


def entries() -> list[StreamlitPage]:
    """The pages for the server's data: only handwriting can be drawn."""
    shown = [page for page in ALL if page is not draw.PAGE or loaded.is_handwriting()]
    return [page.as_entry(is_first=page is shown[0]) for page in shown]
