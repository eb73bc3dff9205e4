from dataclasses import replace

import numpy as np
import pytest

from kd_cli.app import canvas, settings
from tests.app.conftest import Visit
from tests.app.images import as_png, html, plain


def test_a_drawing_is_predicted_by_both_networks(visit: Visit, monkeypatch: pytest.MonkeyPatch, seven: bytes) -> None:
    monkeypatch.setattr(settings, "data", replace(settings.data, dataset="mnist"))
    monkeypatch.setattr(canvas, "draw", lambda key: seven)
    shown = html(visit("draw"))
    assert "Both predict <strong>7</strong>" in shown
    assert shown.count("<table") == 2
    assert "mnist/teacher.safetensors" in shown
    assert "mnist/student.safetensors" in shown


def test_the_page_waits_for_a_drawing(visit: Visit) -> None:
    assert "Draw one digit" in html(visit("draw"))


def test_a_blank_drawing_gets_a_message(visit: Visit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(canvas, "draw", lambda key: as_png(np.full((280, 280), 255, np.uint8)))
    assert "blank" in plain(visit("draw").error[0])
