"""The pages, in the order in which the navigation has them."""

from kd_cli.app import compare, draw, explain, loaded, samples, train, upload
from kd_cli.app.navigation import Page

ALL = (draw.PAGE, upload.PAGE, samples.PAGE, compare.PAGE, explain.PAGE, train.PAGE)


def for_this_data() -> list[Page]:
    """The pages for the server's data: only handwriting can be drawn."""
    return [page for page in ALL if page is not draw.PAGE or loaded.is_handwriting()]
