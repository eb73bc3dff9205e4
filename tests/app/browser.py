"""A server of ``kd app``, a Chromium, and the hand that draws: shared by the browser tests and the benchmark."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.app.strokes import SIDE, Stroke
from tests.conftest import hear_interrupts

# A browser in a container has neither a sandbox nor a GPU, and the others keep it from calling home.
CHROMIUM_FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]

PAGES = {
    "Draw": "Draw a digit",
    "Upload": "Upload images",
    "Samples": "Test images",
    "Compare": "Teacher and student compared",
    "How it works": "How distillation works",
    "Train": "Distil a student",
}
"""The pages in the navigation, and their headings."""

BOARD = ".board canvas"
PREDICTIONS = ".kd-predictions"


open_url = urllib.request.build_opener(urllib.request.ProxyHandler({})).open
"""Opens an address of this machine. `urlopen` would go by the proxy that it met first, in a test without a network."""


def find_chromium() -> str | None:
    """The program, if it is installed."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@contextlib.contextmanager
def serve(data_dir: Path, models_dir: Path, folder: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """``kd app`` on a free port, in an empty folder: its address and its process."""
    with socket.create_server(("localhost", 0)) as probe:
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "kd_cli", "app", "--port", str(port), "--no-browser"]
    command += ["--data-dir", str(data_dir), "--models-dir", str(models_dir)]
    paths = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    with (
        (folder / "server.log").open("wb") as log,
        subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log, stderr=log, preexec_fn=hear_interrupts
        ) as server,
    ):
        try:
            address = f"http://localhost:{port}"
            _wait_for(address, server)
            yield address, server
        finally:
            server.send_signal(signal.SIGINT)
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()


def _wait_for(address: str, server: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        if server.poll() is not None:
            break
        with contextlib.suppress(urllib.error.URLError, OSError):
            open_url(f"{address}/_stcore/health", timeout=1).close()
            return
        time.sleep(0.1)
    raise RuntimeError("the server did not start")


def draw(page: Any, stroke: Stroke) -> None:
    """Draw a stroke on the board of a Playwright page, with the mouse."""
    box = page.locator(BOARD).bounding_box()
    (x, y), *rest = [(box["x"] + x / SIDE * box["width"], box["y"] + y / SIDE * box["height"]) for x, y in stroke]
    page.mouse.move(x, y)
    page.mouse.down()
    for x, y in rest:
        page.mouse.move(x, y, steps=3)
    page.mouse.up()
