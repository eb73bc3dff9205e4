"""What the tests of reports share: the width of the output is theirs to say."""

from collections.abc import Callable
from typing import TypeVar

import pytest

Shown = TypeVar("Shown")
Printed = Callable[..., str]


@pytest.fixture(autouse=True)
def _no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("COLUMNS", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Printed:
    """What a function prints for a result: ``printed(print_training, result)``."""

    def run(function: Callable[[Shown], None], result: Shown) -> str:
        function(result)
        return capsys.readouterr().out

    return run


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Make the output a terminal without colours that has as many columns as given."""

    def become(columns: int) -> None:
        for name, value in {"COLUMNS": str(columns), "FORCE_COLOR": "1", "NO_COLOR": "1", "TERM": "xterm"}.items():
            monkeypatch.setenv(name, value)

    return become
