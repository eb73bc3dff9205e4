"""How large the page of ``kd export --html`` is, and how soon it predicts the first drawing.

    python -m tests.benchmarks.html FOLDER

Needs Playwright and Chromium. A script in the page draws a 1 as soon as there is a board, before the networks are
ready, and notes when its prediction is shown, in milliseconds from the request for the page.
"""

import argparse
import statistics
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from tests.app import browser
from tests.html.serving import serve

LOADS = 11

DRAW_AND_NOTE = """addEventListener("DOMContentLoaded", () => {
    const canvas = document.querySelector(".board canvas");
    const press = (key) => canvas.dispatchEvent(new KeyboardEvent("keydown", { key }));
    [" ", ...Array(20).fill("ArrowDown"), " "].forEach(press);
    new MutationObserver(() => {
        if (document.querySelector(".kd-pixels")) window.firstPrediction ??= performance.now();
    }).observe(document, { childList: true, subtree: true });
});"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="what kd export --html wrote")
    folder = parser.parse_args().folder
    print(f"{sum(path.stat().st_size for path in folder.iterdir()):,} bytes")
    with sync_playwright() as driver, serve(folder) as served:
        chromium = driver.chromium.launch(executable_path=browser.find_chromium(), args=browser.CHROMIUM_FLAGS)
        for name, address in (("from the disk", folder.resolve().as_uri()), ("from a server", served)):
            first, *later = _measure(chromium, f"{address}/index.html")
            print(
                f"{name}: first prediction after {first:.0f} ms; {LOADS - 1} more loads: "
                f"median {statistics.median(later):.0f} ms, {min(later):.0f} to {max(later):.0f}"
            )
        chromium.close()


def _measure(chromium: Any, address: str) -> list[float]:
    with chromium.new_context() as context:
        page = context.new_page()
        page.add_init_script(DRAW_AND_NOTE)
        found = []
        for _ in range(LOADS):
            page.goto(address)
            page.locator(".kd-pixels").wait_for()
            page.locator("#verdict", has_text="predict").wait_for()
            found.append(float(page.evaluate("firstPrediction")))
        return found


if __name__ == "__main__":
    main()
