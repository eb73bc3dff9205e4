"""A few visitors at once, for those who ask for them (``KD_CROWD=1 pytest -m slow tests/app/test_crowd.py``).

``python -m tests.benchmarks.crowd`` brings as many as the page is made for.
"""

import asyncio
import os

import pytest

from tests.app import browser

pytest.importorskip("playwright.async_api", reason="needs Playwright: pip install -e '.[dev]'")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("KD_CROWD" not in os.environ, reason="needs KD_CROWD=1 and an idle machine"),
    pytest.mark.skipif(browser.find_chromium() is None, reason="no Chromium is installed: apt-get install chromium"),
    pytest.mark.skipif(os.name != "posix", reason="sends a Unix signal"),
]


def test_visitors_meet_no_error_lose_no_click_and_leave_nothing_in_memory() -> None:
    from tests.benchmarks import crowd

    met = asyncio.run(crowd.measure(visitors=6, seconds=20, rest=30))
    assert met.errors == []
    assert all(met.done[kind] for kind in ("drawn", "uploaded", "trained", "taken out"))
    assert met.after_mb < met.before_mb + 100
