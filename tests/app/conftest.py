"""A visitor without a browser: the pages run as Streamlit runs them, on the bundled digits."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import streamlit
from streamlit.testing.v1 import AppTest

from kd_cli.app import settings
from kd_cli.config import DataConfig, DeviceName, RunConfig
from tests.app.images import as_png

Visit = Callable[[str], Any]


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture
def visit(shipped: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Visit]:
    """Open a page by the name of its room, with the networks that ship: ``visit("samples")``."""
    monkeypatch.setattr(settings, "data", DataConfig("digits", data_dir))
    monkeypatch.setattr(settings, "run", RunConfig(shipped, DeviceName.cpu))
    streamlit.cache_resource.clear()

    def open_page(name: str) -> Any:
        script = f"from kd_cli.app import {name}\n{name}.show()"
        return AppTest.from_string(script, default_timeout=120).run()

    yield open_page
    streamlit.cache_resource.clear()


@pytest.fixture
def seven() -> bytes:
    """A 7, thick and black on white, as a PNG file."""
    pixels = np.full((280, 280), 255, np.uint8)
    pixels[60:80, 70:200] = 0
    for row in range(80, 230):
        right = 200 - (row - 60) * 4 // 10
        pixels[row, right - 24 : right] = 0
    return as_png(pixels)
