"""The pages, in the order in which the navigation has them."""

from collections.abc import Callable
from typing import Any

from kd_cli.app import compare, distil, draw, explain, samples, upload

ALL: list[tuple[Callable[[], None], dict[str, Any]]] = [
    (each.page, each.PAGE) for each in (draw, upload, samples, compare, explain, distil)
]
