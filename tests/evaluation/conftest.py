"""What tests of measurements share."""

import pytest

from kd_cli.evaluation import timing
from tests.evaluation.clock import Clock


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock that times are read from."""
    clock = Clock()
    monkeypatch.setattr(timing, "_choose_clock", lambda: clock.read)
    monkeypatch.setattr(timing, "perf_counter", clock.read)
    return clock
