import base64

import pytest

from kd_cli.app import canvas
from kd_cli.config import KdError


@pytest.mark.parametrize(
    "value", ["http://elsewhere/image.png", f"{canvas.PREFIX}%%%", canvas.PREFIX + "A" * canvas.LARGEST, 7, ["a"]]
)
def test_what_is_no_drawing_is_refused(monkeypatch: pytest.MonkeyPatch, value: object) -> None:
    monkeypatch.setattr(canvas, "_component", lambda: lambda **options: {"drawing": value})
    with pytest.raises(KdError, match="draw"):
        canvas.draw("canvas")


def test_a_drawing_arrives_as_its_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    value = canvas.PREFIX + base64.b64encode(b"content").decode()
    monkeypatch.setattr(canvas, "_component", lambda: lambda **options: {"drawing": value})
    assert canvas.draw("canvas") == b"content"
