"""Many visitors of ``kd app`` at once, who draw, upload, train and stop: errors, lost clicks, and the server's memory.

    python -m tests.benchmarks.crowd [--visitors 30] [--seconds 300] [--rest 60] [--patience 120]

Every visitor is a context of its own in one Chromium, which needs more of the machine than the server does. A click, a
stroke or an upload is lost if the page shows nothing of it for as long as visitors are patient. The first visitors come
before the memory is looked at: what they make the server load stays.
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

from kd_cli.app.limits import LONGEST_RUN_SECONDS, MAX_EPOCHS
from kd_cli.networks.checkpoint import shipped_models_dir
from tests.app import browser, strokes
from tests.app.images import as_png
from tests.benchmarks.app import resident_mb

SECONDS_BETWEEN_ARRIVALS = 4.0

HEARD = """() => ![...document.querySelectorAll(".kd-queue li")].some(item => item.innerText.includes("(yours)"))
    || [...document.querySelectorAll("button")].some(button => button.innerText.includes("keep nothing"))"""
"""Whether a visitor's run is gone, or the page offers to stop at once what it is stopping already."""

FIRST = 2
"""Visitors before the others, one of whom waits for a run's turn."""


@dataclass(frozen=True)
class Met:
    """How often each thing was done, what went wrong, and the server's memory before, at the end, and a rest later."""

    done: Counter[str]
    errors: list[str]
    before_mb: float
    end_mb: float
    after_mb: float


class Visitor:
    """Somebody who does one thing after the other.

    Args:
        number: from 0. Number 0 waits for the turn of a run and stops it then; the others take theirs out of the queue.
        done: counts what they do.
        errors: takes what goes wrong.
    """

    page: Page

    def __init__(self, number: int, done: Counter[str], errors: list[str]) -> None:
        self.number, self.done, self.errors = number, done, errors
        self.is_patient = number == 0

    async def visit(self, chromium: Browser, address: str, patience: float, end: float) -> None:
        """Come, do everything at least once, go on until the time is over, and leave."""
        context = await chromium.new_context(viewport={"width": 1000, "height": 900})
        context.set_default_timeout(1000 * patience)
        actions = [self.draw, self.upload, self.train]
        turn = self.number
        try:
            self.page = await context.new_page()
            await self.page.goto(address)
            while time.monotonic() < end or turn < self.number + len(actions):
                name = await actions[turn % len(actions)](turn)
                self.done[name] += 1
                turn += 1
                for message in await self.page.locator(".stException, .stAlertContentError").all_inner_texts():
                    self.errors.append(f"visitor {self.number}, after {name}: {message}")
        except PlaywrightError as error:
            self.errors.append(f"visitor {self.number}, turn {turn}: {' '.join(str(error).split())[:300]}")
        finally:
            await context.close()

    async def draw(self, turn: int) -> str:
        """Draw a digit stroke by stroke, on an empty board."""
        await self._go_to("Draw")
        board = self.page.locator(browser.BOARD)
        clear = self.page.get_by_role("button", name="Clear")
        await board.wait_for()
        if await clear.is_enabled():
            await clear.click()
        await self.page.get_by_text("Draw one digit").wait_for()
        await self.page.locator(".kd-pixels").wait_for(state="detached")
        box: Any = await board.bounding_box()
        for stroke in strokes.DRAWN[turn % len(strokes.DRAWN)][1]:
            before = await self.page.evaluate("document.querySelector('.kd-pixels')?.src ?? null")
            places = [
                (box["x"] + x / strokes.SIDE * box["width"], box["y"] + y / strokes.SIDE * box["height"])
                for x, y in stroke
            ]
            await self.page.mouse.move(*places[0])
            await self.page.mouse.down()
            for place in places[1:]:
                await self.page.mouse.move(*place)
            await self.page.mouse.up()
            await self.page.wait_for_function(
                "before => (document.querySelector('.kd-pixels')?.src ?? before) !== before", arg=before
            )
        return "drawn"

    async def upload(self, turn: int) -> str:
        """Upload a photograph of a seven, of about a megabyte."""
        await self._go_to("Upload")
        noise = np.random.default_rng(turn).integers(0, 16, (1200, 1200), np.uint8)
        pixels = 255 - noise
        pixels[250:330, 300:850] = noise[250:330, 300:850]
        pixels[250:980, 770:850] = noise[250:980, 770:850]
        name = f"seven-{self.number}-{turn}.png"
        file: Any = {"name": name, "mimeType": "image/png", "buffer": as_png(pixels)}
        await self.page.locator("input[type=file]").set_input_files(file)
        await self.page.get_by_role("heading", name=name).wait_for()
        await self.page.locator(browser.PREDICTIONS).last.wait_for()
        return "uploaded"

    async def train(self, turn: int) -> str:
        """Start a run, and stop it or take it out of the queue."""
        await self._go_to("Train")
        epochs = self.page.get_by_label("Epochs")
        await epochs.fill(str(MAX_EPOCHS))
        await epochs.press("Enter")
        await self.page.get_by_role("button", name="Start").click()
        mine = self.page.locator(".kd-queue li", has_text="(yours)")
        await mine.wait_for()
        if self.is_patient:
            await self.page.get_by_role("button", name="Stop after this epoch").wait_for()
        await self.page.get_by_role("button", name=re.compile("Stop after this epoch|Take out of the queue")).click()
        # The click is heard once the run is gone, or says that it is stopping. Its epoch may take long after that.
        await self.page.wait_for_function(HEARD)
        await mine.wait_for(state="detached", timeout=1000 * LONGEST_RUN_SECONDS)
        # Not "60 epochs": then nobody heard the click.
        outcome = self.page.get_by_text(re.compile("You stopped this run|Stopped after")).first
        return "taken out" if "You stopped" in await outcome.inner_text() else "trained"

    async def _go_to(self, name: str) -> None:
        await self.page.get_by_role("link", name=re.compile(f"{name}$")).first.click()
        await self.page.get_by_role("heading", name=browser.PAGES[name]).wait_for()
        await self.page.locator(".kd-sources").wait_for()


async def measure(visitors: int, seconds: float, rest: float, patience: float = 120) -> Met:
    """What the visitors did and met."""
    done: Counter[str] = Counter()
    errors: list[str] = []
    data_dir = Path(os.environ.get("KD_DATA_DIR", "data")).absolute()
    with (
        tempfile.TemporaryDirectory() as folder,
        browser.serve(data_dir, shipped_models_dir(), Path(folder)) as (address, server),
    ):
        async with async_playwright() as driver:
            chromium = await driver.chromium.launch(
                executable_path=browser.find_chromium(), args=browser.CHROMIUM_FLAGS
            )

            async def come(number: int, end: float, wait: float = 0) -> None:
                await asyncio.sleep(wait)
                await Visitor(number, done, errors).visit(chromium, address, patience, end)

            await asyncio.gather(*(come(number, 0) for number in range(FIRST)))
            done.clear()
            before = resident_mb(server.pid)
            end = time.monotonic() + SECONDS_BETWEEN_ARRIVALS * visitors + seconds  # from when all are here
            await asyncio.gather(*(come(number, end, number * SECONDS_BETWEEN_ARRIVALS) for number in range(visitors)))
            most = resident_mb(server.pid)
            await chromium.close()
        await asyncio.sleep(rest)
        return Met(done, errors, before, most, resident_mb(server.pid))


def as_table(met: Met, title: str) -> Table:
    """One row."""
    table = Table(title=f"{title}, {os.cpu_count()} cores")
    cells = {kind.capitalize(): str(met.done[kind]) for kind in ("drawn", "uploaded", "trained", "taken out")}
    cells["Errors, lost clicks"] = str(len(met.errors))
    for name, value in (("before", met.before_mb), ("at the end", met.end_mb), ("later", met.after_mb)):
        cells[f"MB {name}"] = f"{value:.0f}"
    for name in cells:
        table.add_column(name, justify="right")
    table.add_row(*cells.values())
    return table


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--visitors", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--rest", type=float, default=60, help="seconds between the last visitor and the last look")
    parser.add_argument("--patience", type=float, default=120, help="seconds that a visitor waits for anything")
    arguments = parser.parse_args()
    met = asyncio.run(measure(arguments.visitors, arguments.seconds, arguments.rest, arguments.patience))
    Console().print(as_table(met, f"{arguments.visitors} visitors, {arguments.seconds:g} s"), *met.errors, sep="\n")


if __name__ == "__main__":
    main()
