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
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, Page, async_playwright
from playwright.async_api import Error as PlaywrightError
from rich.console import Console
from rich.table import Table

from kd_cli.networks.checkpoint import shipped_models_dir
from tests.app import browser, strokes
from tests.app.images import as_png
from tests.benchmarks.app import resident_mb

PATIENCE_MS = 120_000


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

    async def visit(self, number: int, end: float) -> None:
        """Do one thing after the other until the time is over."""
        context = await self.chromium.new_context(viewport={"width": 1000, "height": 900})
        page = await context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        actions = [self._draw, self._upload, self._train]
        turn = number
        try:
            await page.goto(self.address)
            while time.monotonic() < end:
                action = actions[turn % len(actions)]
                turn += 1
                await action(page)
                self.done[action.__name__.strip("_")] += 1
                if await page.locator(".stException, .stAlertContentError").count():
                    self.errors.append(f"{action.__name__}: {await page.locator('.stAlert').first.inner_text()}")
        except PlaywrightError as error:
            self.errors.append(f"visitor {number}: {str(error).splitlines()[0]}")
        finally:
            await context.close()

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


async def measure(visitors: int, seconds: float, rest: float) -> tuple[Table, list[str]]:
    """What the visitors did and met."""
    import numpy as np

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
            await crowd.visit(0, time.monotonic() + 10)  # what the first visitor of all loads stays loaded
            crowd.done.clear()
            before = resident_mb(server.pid)
            end = time.monotonic() + seconds
            await asyncio.gather(*(crowd.visit(number, end) for number in range(visitors)))
            most = resident_mb(server.pid)
            await chromium.close()
        await asyncio.sleep(rest)
        after = resident_mb(server.pid)
    table = Table(title=f"{visitors} visitors for {seconds:g} s on {os.cpu_count()} cores")
    row = [*(str(crowd.done[name]) for name in ("draw", "upload", "train")), str(len(crowd.errors))]
    row += [f"{value:.0f}" for value in (before, most, after)]
    columns = ["Drawn", "Uploaded", "Trained", "Errors and lost clicks"]
    for column in [*columns, "Before (MB)", "At the end (MB)", f"{rest:g} s later (MB)"]:
        table.add_column(column, justify="right")
    table.add_row(*row)
    return table, crowd.errors


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--visitors", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--rest", type=float, default=60, help="seconds between the last visitor and the last look")
    arguments = parser.parse_args()
    table, errors = asyncio.run(measure(arguments.visitors, arguments.seconds, arguments.rest))
    Console().print(table, *errors, sep="\n")


if __name__ == "__main__":
    main()
