"""Pages of others in the visitor's Chromium, which want something of the page of ``kd app``."""

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.app import browser

playwright = pytest.importorskip("playwright.sync_api", reason="needs Playwright: pip install -e '.[dev]'")
CHROMIUM = browser.find_chromium()

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed: apt-get install chromium"),
    pytest.mark.skipif(os.name != "posix", reason="sends a Unix signal"),
]

REBOUND = "rebound.example"
"""A name that leads to this machine, as its owner's name server says."""

OPEN_SOCKET = """url => new Promise(resolve => {
  const socket = new WebSocket(url);
  socket.onopen = () => resolve("open");
  socket.onerror = () => resolve("refused");
})"""

READ = "url => fetch(url).then(answer => answer.text(), error => 'refused')"

UPLOAD = "url => fetch(url, {method: 'PUT', body: 'x'}).then(answer => answer.status, error => 'refused')"


class Quiet(SimpleHTTPRequestHandler):
    """A server that does not log."""

    def log_message(self, *arguments: Any) -> None:
        pass


@dataclass(frozen=True)
class Scene:
    """The page, another site's page, and a tab of the browser in which both can be opened."""

    address: str
    elsewhere: str
    tab: Any


@pytest.fixture(scope="module")
def address(shipped: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("server")
    with browser.serve(folder, shipped, folder) as (address, _):
        yield address


@pytest.fixture
def scene(address: str, tmp_path: Path) -> Iterator[Scene]:
    (tmp_path / "index.html").write_text(f"<iframe src='{address}' width='600' height='400'></iframe>")
    site = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path)))
    threading.Thread(target=site.serve_forever, daemon=True).start()
    rule = f"--host-resolver-rules=MAP {REBOUND} 127.0.0.1"
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=[*browser.CHROMIUM_FLAGS, rule])
        yield Scene(address, f"http://127.0.0.1:{site.server_port}", chromium.new_page())
        chromium.close()
    site.shutdown()
    site.server_close()


def test_the_page_itself_can_be_opened(scene: Scene) -> None:
    """Or the other tests would show nothing."""
    scene.tab.goto(scene.address)
    scene.tab.locator(browser.BOARD).wait_for()
    assert scene.tab.evaluate(READ, f"{scene.address}/_stcore/health") == "ok"
    assert scene.tab.evaluate(OPEN_SOCKET, f"{scene.address.replace('http', 'ws')}/_stcore/stream") == "open"


def test_another_sites_page_gets_nothing(scene: Scene) -> None:
    scene.tab.goto(f"{scene.elsewhere}/nothing-here")
    assert scene.tab.evaluate(READ, f"{scene.address}/_stcore/health") == "refused"
    assert scene.tab.evaluate(UPLOAD, f"{scene.address}/_stcore/upload_file/a/b") == "refused"
    assert scene.tab.evaluate(OPEN_SOCKET, f"{scene.address.replace('http', 'ws')}/_stcore/stream") == "refused"


def test_a_rebound_name_gets_nothing(scene: Scene) -> None:
    rebound = scene.address.replace("localhost", REBOUND)
    answer = scene.tab.goto(rebound)
    assert answer.status == 403
    assert scene.tab.evaluate(READ, f"{rebound}/_stcore/health") != "ok"
    assert scene.tab.evaluate(UPLOAD, f"{rebound}/_stcore/upload_file/a/b") == 403
    assert scene.tab.evaluate(OPEN_SOCKET, f"{rebound.replace('http', 'ws')}/_stcore/stream") == "refused"


def test_the_page_does_not_appear_in_a_frame(scene: Scene) -> None:
    scene.tab.goto(scene.elsewhere)
    scene.tab.wait_for_load_state("networkidle")
    (frame,) = scene.tab.main_frame.child_frames
    assert not frame.url.startswith(scene.address)
    assert frame.locator(browser.BOARD).count() == 0
