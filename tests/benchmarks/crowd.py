"""Many visitors of ``kd app`` at once, who draw, upload, train and stop: errors, lost clicks, and memory afterwards.

    python -m tests.benchmarks.crowd [--visitors 30] [--seconds 300] [--rest 60]

Every visitor is a browser context of one Chromium. A click is lost if the page shows nothing of it within two minutes.
"""

import argparse
import asyncio
import os
import re
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from playwright.async_api import Browser, Page, async_playwright
from playwright.async_api import Error as PlaywrightError
from rich.console import Console
from rich.table import Table

from kd_cli.networks.checkpoint import shipped_models_dir
from tests.app import browser, strokes
from tests.app.images import as_png
from tests.benchmarks.app import resident_mb

PATIENCE_MS = 120_000


@dataclass(frozen=True)
class Met:
    """How often each thing was done, what went wrong, and the server's memory before, at the end, and a rest later."""

    done: Counter[str]
    errors: list[str]
    before_mb: float
    end_mb: float
    after_mb: float


class Crowd:
    """The visitors of a server, and what they met.

    Args:
        chromium: their browser.
        address: the server's.
        image: what they upload.
    """

    def __init__(self, chromium: Browser, address: str, image: Path) -> None:
        self.chromium, self.address, self.image = chromium, address, image
        self.done: Counter[str] = Counter()
        self.errors: list[str] = []

    async def open_page(self) -> Page:
        """A new visitor."""
        context = await self.chromium.new_context(viewport={"width": 1000, "height": 900})
        page = await context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        await page.goto(self.address, timeout=PATIENCE_MS)
        await page.locator(browser.BOARD).wait_for()
        return page

    async def visit(self, page: Page, number: int, end: float) -> None:
        """Do one thing after the other until the time is over, at least one of each kind, and leave."""
        actions = [self._draw, self._upload, self._train]
        turn = number
        try:
            while time.monotonic() < end or turn < number + len(actions):
                action = actions[turn % len(actions)]
                turn += 1
                await action(page)
                self.done[action.__name__.strip("_")] += 1
                if await page.locator(".stException, .stAlertContentError").count():
                    self.errors.append(f"{action.__name__}: {await page.locator('.stAlert').first.inner_text()}")
        except PlaywrightError as error:
            self.errors.append(f"visitor {number}: {str(error).splitlines()[0]}")
        finally:
            await page.context.close()

    async def _go_to(self, page: Page, name: str) -> None:
        await page.get_by_role("link", name=re.compile(f"{name}$")).first.click()
        await page.locator(".kd-sources").wait_for()

    async def _draw(self, page: Page) -> None:
        await self._go_to(page, "Draw")
        board = page.locator(browser.BOARD)
        await board.wait_for()
        box: Any = await board.bounding_box()
        for stroke in strokes.DRAWN[7][1]:
            places = [
                (box["x"] + x / strokes.SIDE * box["width"], box["y"] + y / strokes.SIDE * box["height"])
                for x, y in stroke
            ]
            await page.mouse.move(*places[0])
            await page.mouse.down()
            for place in places[1:]:
                await page.mouse.move(*place)
            await page.mouse.up()
        await page.locator(browser.PREDICTIONS).wait_for()

    async def _upload(self, page: Page) -> None:
        await self._go_to(page, "Upload")
        await page.locator("input[type=file]").set_input_files(self.image)
        await page.locator(browser.PREDICTIONS).last.wait_for()

    async def _train(self, page: Page) -> None:
        await self._go_to(page, "Train")
        await page.get_by_role("button", name="Start").click()
        # While it waits, it can be taken out; when its turn has come, it can be stopped.
        end = page.get_by_role("button", name=re.compile("Take out of the queue|Stop after this epoch"))
        await end.first.wait_for()
        await end.first.click()
        await page.get_by_text(re.compile("You stopped this run|Test accuracy")).first.wait_for()


async def measure(visitors: int, seconds: float, rest: float) -> Met:
    """What the visitors did and met."""
    data_dir = Path(os.environ.get("KD_DATA_DIR", "data")).absolute()
    with (
        tempfile.TemporaryDirectory() as folder,
        browser.serve(data_dir, shipped_models_dir(), Path(folder)) as (address, server),
    ):
        image = Path(folder) / "seven.png"
        pixels = np.full((280, 280), 255, np.uint8)
        pixels[60:80, 70:200] = 0
        pixels[60:230, 180:200] = 0
        image.write_bytes(as_png(pixels))
        async with async_playwright() as driver:
            chromium = await driver.chromium.launch(
                executable_path=browser.find_chromium(), args=browser.CHROMIUM_FLAGS
            )
            crowd = Crowd(chromium, address, image)
            await crowd.visit(
                await crowd.open_page(), 0, time.monotonic() + 10
            )  # what the first visitor of all loads stays loaded
            crowd.done.clear()
            before = resident_mb(server.pid)
            pages = [await crowd.open_page() for _ in range(visitors)]
            end = time.monotonic() + seconds  # not before all are here
            await asyncio.gather(*(crowd.visit(page, number, end) for number, page in enumerate(pages)))
            most = resident_mb(server.pid)
            await chromium.close()
        await asyncio.sleep(rest)
        after = resident_mb(server.pid)
    return Met(crowd.done, crowd.errors, before, most, after)


def as_table(met: Met, title: str) -> Table:
    """One row."""
    table = Table(title=f"{title}, {os.cpu_count()} cores")
    for column in ("Drawn", "Uploaded", "Trained", "Errors and lost clicks", "MB before", "MB at the end", "MB later"):
        table.add_column(column, justify="right")
    counts = (met.done["draw"], met.done["upload"], met.done["train"], len(met.errors))
    memory = (f"{value:.0f}" for value in (met.before_mb, met.end_mb, met.after_mb))
    table.add_row(*map(str, counts), *memory)
    return table


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--visitors", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--rest", type=float, default=60, help="seconds between the last visitor and the last look")
    arguments = parser.parse_args()
    met = asyncio.run(measure(arguments.visitors, arguments.seconds, arguments.rest))
    Console().print(as_table(met, f"{arguments.visitors} visitors, {arguments.seconds:g} s"), *met.errors, sep="\n")


if __name__ == "__main__":
    main()
