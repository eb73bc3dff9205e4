"""How soon after the end of a stroke ``kd app`` shows what the networks predict, and what a visitor costs in memory.

    python -m tests.benchmarks.app [--strokes 60] [--users 20]

Every visitor is a page of its own in one Chromium, on the same machine as the server: what the browser takes of the
processor, the server does not get. The clock runs inside the page, from the event that ends a stroke to the frame after
the one in which the predictions changed. A stroke takes about 0.4 s, and the next one begins a second later.
"""

import argparse
import asyncio
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from playwright.async_api import Browser, Page, async_playwright
from rich.console import Console
from rich.table import Table

from kd_cli.networks.checkpoint import shipped_models_dir
from tests.app import browser, strokes

SECONDS_BETWEEN_STROKES = 1.0
SECONDS_BETWEEN_PLACES = 0.04

WATCH = """() => {
  window.delays = [];
  let end = null;
  addEventListener("pointerup", (event) => {
    if (event.composedPath()[0].tagName === "CANVAS") end = performance.now();
  }, true);
  new MutationObserver(() => {
    if (end === null || !document.querySelector(".kd-predictions")) return;
    const start = end;
    end = null;
    requestAnimationFrame(() => setTimeout(() => window.delays.push(performance.now() - start)));
  }).observe(document.querySelector(".stMain"), { childList: true, subtree: true, characterData: true });
}"""


async def open_page(chromium: Browser, address: str) -> Page:
    """A new visitor."""
    context = await chromium.new_context(viewport={"width": 1000, "height": 800})
    page = await context.new_page()
    page.set_default_timeout(120_000)
    await page.goto(address)
    await page.locator(browser.BOARD).wait_for()
    await page.evaluate(WATCH)
    return page


async def draw(page: Page, stroke: strokes.Stroke) -> None:
    """Draw a stroke at a hand's speed, and wait until its predictions are there."""
    box: Any = await page.locator(browser.BOARD).bounding_box()
    places = [
        (box["x"] + x / strokes.SIDE * box["width"], box["y"] + y / strokes.SIDE * box["height"]) for x, y in stroke
    ]
    before = await page.evaluate("delays.length")
    await page.mouse.move(*places[0])
    await page.mouse.down()
    for place in places[1:]:
        await page.mouse.move(*place)
        await asyncio.sleep(SECONDS_BETWEEN_PLACES)
    await page.mouse.up()
    await page.wait_for_function("before => delays.length > before", arg=before, polling=100)


async def visit(page: Page, count: int, start: int) -> list[float]:
    """Draw digit after digit, ``count`` strokes in all; milliseconds from each stroke's end to its predictions."""
    drawn = 0
    await asyncio.sleep(start * SECONDS_BETWEEN_STROKES / 20)  # visitors do not move in step
    while drawn < count:
        _, digit = strokes.DRAWN[(start + drawn) % len(strokes.DRAWN)]
        for stroke in digit:
            await draw(page, stroke)
            await asyncio.sleep(SECONDS_BETWEEN_STROKES)
            drawn += 1
        await page.get_by_role("button", name="Clear").click()
        await page.get_by_text("Draw one digit").wait_for()
    delays: list[float] = await page.evaluate("delays")
    return delays


def resident_mb(process: int) -> float:
    """Memory of a process in MB; Linux only."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


async def measure(count: int, users: int) -> Table:
    """One visitor alone, then all of them at once."""
    table = Table(title=f"kd app on {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before")
    for column in (
        "Visitors",
        "Strokes",
        "p50 (ms)",
        "p95 (ms)",
        "Longest (ms)",
        "Server (MB)",
        "Each further one (MB)",
    ):
        table.add_column(column, justify="right")
    data_dir = Path(os.environ.get("KD_DATA_DIR", "data")).absolute()
    with (
        tempfile.TemporaryDirectory() as folder,
        browser.serve(data_dir, shipped_models_dir(), Path(folder)) as (address, server),
    ):
        async with async_playwright() as driver:
            chromium = await driver.chromium.launch(
                executable_path=browser.find_chromium(), args=browser.CHROMIUM_FLAGS
            )
            first = await open_page(chromium, address)
            delays = await visit(first, count, 0)
            alone = resident_mb(server.pid)
            _add(table, 1, delays, alone, "")
            await first.evaluate("delays.length = 0")
            others = [await open_page(chromium, address) for _ in range(users - 1)]
            each = max(3, count // 6)
            together = await asyncio.gather(*(visit(page, each, i) for i, page in enumerate([first, *others])))
            crowd = resident_mb(server.pid)
            further = f"{(crowd - alone) / (users - 1):.1f}"
            _add(table, users, [delay for delays in together for delay in delays], crowd, further)
            await chromium.close()
    return table


def _add(table: Table, users: int, delays: list[float], memory: float, further: str) -> None:
    p50, p95 = np.percentile(delays, [50, 95])
    times = (f"{value:.0f}" for value in (p50, p95, max(delays)))
    table.add_row(str(users), str(len(delays)), *times, f"{memory:.0f}", further)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--strokes", type=int, default=60, help="strokes of the visitor who is alone")
    parser.add_argument("--users", type=int, default=20, help="visitors who draw at once")
    arguments = parser.parse_args()
    Console().print(asyncio.run(measure(arguments.strokes, arguments.users)))


if __name__ == "__main__":
    main()
