"""The page of ``kd app`` in a real Chromium, as a visitor uses it."""

import contextlib
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kd_cli.data.dataset import Dataset
from tests.app import browser, strokes
from tests.app.images import as_png
from tests.conftest import DATA_DIR, ROOT

playwright = pytest.importorskip("playwright.sync_api", reason="needs Playwright: pip install -e '.[dev]'")
CHROMIUM = browser.find_chromium()

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed: apt-get install chromium"),
    pytest.mark.skipif(os.name != "posix", reason="sends a Unix signal"),
]

AXE = Path(os.environ.get("KD_AXE", ROOT / "build" / "axe" / "package" / "axe.min.js"))


@pytest.fixture(scope="module")
def server(
    archives: Path, shipped: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    with browser.serve(DATA_DIR, shipped, tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        yield driver.chromium.launch(executable_path=CHROMIUM, args=browser.CHROMIUM_FLAGS)


@pytest.fixture
def page(server: tuple[str, Any], chromium: Any) -> Iterator[Any]:
    """A visitor who has opened the page; nothing may be fetched from elsewhere meanwhile."""
    address, _ = server
    foreign: list[str] = []
    with open_page(chromium, address, foreign) as visitor:
        yield visitor
    assert foreign == []


@contextlib.contextmanager
def open_page(chromium: Any, address: str, foreign: list[str] | None = None, **options: Any) -> Iterator[Any]:
    """A visitor who opens the page; ``foreign`` takes the addresses of other servers that are asked for anything."""
    with chromium.new_context(**{"viewport": {"width": 1200, "height": 1000}} | options) as context:
        visitor = context.new_page()
        visitor.set_default_timeout(60_000)

        def note(request: Any) -> None:
            if foreign is not None and not request.url.startswith((address, "data:", "blob:")):
                foreign.append(request.url)

        visitor.on("request", note)
        visitor.goto(address)
        visitor.locator(browser.BOARD).wait_for()
        yield visitor


def go_to(page: Any, name: str) -> None:
    page.get_by_role("link", name=re.compile(f"{name}$")).first.click()
    page.get_by_role("heading", name=browser.PAGES[name]).wait_for()
    page.locator(".kd-sources").wait_for()


def read_predictions(page: Any) -> list[int]:
    """What teacher and student predict for the last image on the page, once the page is at rest."""
    page.locator(browser.PREDICTIONS).last.wait_for()
    page.wait_for_function("!document.querySelector('[data-stale=true]')")
    captions = page.locator(f"{browser.PREDICTIONS} caption").all_inner_texts()[-2:]
    return [int(re.findall(r": (\d)", caption)[0]) for caption in captions]


def draw_digit(page: Any, digit: list[strokes.Stroke]) -> None:
    for stroke in digit:
        draw_and_wait(page, stroke)


def draw_and_wait(page: Any, stroke: strokes.Stroke) -> None:
    before = page.locator(".kd-pixels").get_attribute("src") if page.locator(".kd-pixels").count() else ""
    browser.draw(page, stroke)
    page.wait_for_function("before => (document.querySelector('.kd-pixels')?.src ?? before) !== before", arg=before)


@pytest.mark.parametrize(("digit", "drawing"), strokes.CASES)
def test_a_digit_drawn_with_the_mouse_is_predicted_correctly_by_both(page: Any, digit: int, drawing: list[Any]) -> None:
    draw_digit(page, drawing)
    assert read_predictions(page) == [digit, digit]


def test_undo_takes_back_the_last_stroke_and_clear_all(page: Any) -> None:
    seven, bar = strokes.DRAWN[9][1]
    draw_and_wait(page, seven)
    seen = page.locator(".kd-pixels").get_attribute("src")
    draw_and_wait(page, bar)
    page.get_by_role("button", name="Undo").click()
    page.wait_for_function("seen => document.querySelector('.kd-pixels')?.src === seen", arg=seen)
    page.get_by_role("button", name="Clear").click()
    page.get_by_text("Draw one digit").wait_for()
    assert page.locator(browser.PREDICTIONS).count() == 0


def test_the_buttons_of_the_board_work_by_keyboard(page: Any) -> None:
    draw_digit(page, strokes.DRAWN[8][1])
    slider = page.get_by_label("Stroke width")
    slider.focus()
    before = slider.input_value()
    page.keyboard.press("ArrowRight")
    assert slider.input_value() != before
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.get_by_text("Draw one digit").wait_for()


def test_a_finger_draws_too(server: tuple[str, Any], chromium: Any) -> None:
    viewport = {"width": 390, "height": 844}
    with open_page(chromium, server[0], viewport=viewport, has_touch=True, is_mobile=True) as phone:
        box = phone.locator(browser.BOARD).bounding_box()
        devtools = phone.context.new_cdp_session(phone)
        scale = box["width"] / strokes.SIDE
        points = [{"x": box["x"] + x * scale, "y": box["y"] + y * scale} for x, y in strokes.DRAWN[8][1][0]]
        for kind, touches in [("touchStart", points[:1]), *(("touchMove", [p]) for p in points[1:]), ("touchEnd", [])]:
            devtools.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": touches})
        assert read_predictions(phone) == [7, 7]
        width = phone.evaluate("document.documentElement.scrollWidth")
        assert width <= 390


def test_a_drawing_is_still_there_after_a_look_at_another_page(page: Any) -> None:
    draw_digit(page, strokes.DRAWN[8][1])
    go_to(page, "Upload")
    go_to(page, "Draw")
    assert read_predictions(page) == [7, 7]


def upload(page: Any, **files: bytes) -> None:
    go_to(page, "Upload")
    page.locator("input[type=file]").set_input_files(
        [{"name": f"{name}.png", "mimeType": "image/png", "buffer": content} for name, content in files.items()]
    )


def test_uploaded_images_are_predicted_and_bad_ones_get_a_message_each(page: Any, mnist: Dataset) -> None:
    seven = as_png(255 - np.kron(mnist.test.images[0, 0].numpy(), np.ones((20, 20), np.uint8)))
    bomb = as_png(np.zeros((20_000, 20_000), np.uint8))
    blank = as_png(np.full((300, 300), 255, np.uint8))
    upload(page, seven=seven, text=b"no image at all", bomb=bomb, blank=blank)
    for message in ("text.png: it is not a PNG", "bomb.png: it has too many pixels", "blank.png is blank"):
        page.get_by_text(message).wait_for()
    assert read_predictions(page) == [7, 7]
    go_to(page, "Draw")
    draw_digit(page, strokes.DRAWN[8][1])
    assert read_predictions(page) == [7, 7]


def test_an_image_over_20_mb_gets_a_message_and_the_server_goes_on(page: Any) -> None:
    upload(page, large=bytes(21 * 2**20))
    page.get_by_text(re.compile("must be 20.0 ?MB or smaller")).wait_for()
    go_to(page, "Draw")
    draw_digit(page, strokes.DRAWN[8][1])
    assert read_predictions(page) == [7, 7]


def test_a_long_name_stays_in_its_card(page: Any) -> None:
    upload(page, **{"x" * 200: b"no image at all"})
    page.get_by_text("it is not a PNG").wait_for()
    overflows = page.evaluate("""[...document.querySelectorAll(".stMainBlockContainer :is(h2, .stAlert)")].map(
        (each) => each.scrollWidth - each.clientWidth)""")
    assert len(overflows) == 2
    assert max(overflows) <= 0


def test_samples_on_which_they_disagree_have_different_predictions(page: Any) -> None:
    go_to(page, "Samples")
    page.get_by_text("10,000 of 10,000 test images").wait_for()
    page.get_by_text("Teacher and student disagree").click()
    page.get_by_text(re.compile(r"^\d+ of 10,000 test images")).wait_for()
    page.wait_for_function("!document.querySelector('[data-stale=true]')")
    predictions = [re.findall(r"[TS] (\d)", each) for each in page.locator(".kd-grid li").all_inner_texts()]
    assert predictions
    assert all(teacher != student for teacher, student in predictions)


def test_the_bars_of_teacher_and_student_differ_in_colour(page: Any) -> None:
    go_to(page, "Compare")
    colours = page.evaluate("""[...document.querySelectorAll(".kd-table tr:has(.kd-bar)")].map((row) =>
        [...row.querySelectorAll(".kd-bar")].map((bar) => getComputedStyle(bar).backgroundColor))""")
    assert colours
    assert all(teacher != student for teacher, student in colours)


def test_turning_the_temperature_softens_the_targets(page: Any) -> None:
    go_to(page, "How it works")
    page.get_by_text("Probabilities at T = 4").wait_for()
    page.get_by_role("slider", name="Temperature T").focus()
    page.keyboard.press("ArrowRight")
    page.get_by_text("Probabilities at T = 4.5").wait_for()


def test_a_training_is_started_and_stopped_and_its_student_predicts_a_drawing(page: Any) -> None:
    go_to(page, "Train")
    epochs = page.get_by_label("Epochs")
    epochs.fill("30")
    epochs.press("Enter")
    page.get_by_role("button", name="Start").click()
    page.get_by_text(re.compile("Training: step [1-9]")).wait_for()
    page.get_by_role("button", name="Stop after this epoch").click()
    page.get_by_text(re.compile(r"Test accuracy \d+\.\d+% .*Stopped after \d+ of 30 epochs")).wait_for()
    page.get_by_role("button", name="Try it").click()
    page.get_by_text("student-1.safetensors").wait_for()
    draw_digit(page, strokes.DRAWN[8][1])
    assert read_predictions(page)[0] == 7


def test_runs_wait_for_their_turn_and_only_their_visitors_stop_them(
    server: tuple[str, Any], chromium: Any, page: Any
) -> None:
    go_to(page, "Train")
    with open_page(chromium, server[0]) as owner:
        go_to(owner, "Train")
        owner.get_by_label("Epochs").fill("60")
        owner.get_by_label("Epochs").press("Enter")
        owner.get_by_role("button", name="Start").click()
        owner.get_by_role("button", name="Stop after this epoch").wait_for()
        page.get_by_role("button", name="Start").click()
        page.get_by_text("(another visitor's): goes on now").wait_for()
        page.get_by_text("(yours): number 1 of those that wait").wait_for()
        assert page.get_by_role("button", name="Stop").count() == 0
        owner.get_by_role("button", name="Stop after this epoch").click()
        owner.get_by_role("button", name="Stop now, and keep nothing").click()
        owner.get_by_text("You stopped this run").wait_for()
    page.get_by_text("(yours): goes on now").wait_for()
    page.reload()  # and it is still theirs
    page.get_by_text("(yours): goes on now").wait_for()
    page.get_by_role("button", name="Stop after this epoch").click()
    page.get_by_role("button", name="Stop now, and keep nothing").click()
    page.get_by_text("You stopped this run").wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", browser.PAGES)
def test_axe_finds_no_serious_violation(server: tuple[str, Any], chromium: Any, name: str, scheme: str) -> None:
    if not AXE.exists():
        pytest.skip(f"axe-core is not in {AXE}: npm pack axe-core, unpack it there, or set KD_AXE to its axe.min.js")
    with open_page(chromium, server[0], color_scheme=scheme) as page:
        if name == "Draw":
            draw_digit(page, strokes.DRAWN[0][1])
        elif name == "Upload":
            upload(page, text=b"no image at all")
            page.get_by_text("it is not a PNG").wait_for()
        else:
            go_to(page, name)
        page.evaluate(AXE.read_text(encoding="utf-8"))
        found = page.evaluate("axe.run().then(result => result.violations)")
    serious = [
        (each["id"], [(node["target"], node["failureSummary"]) for node in each["nodes"]])
        for each in found
        if each["impact"] in ("serious", "critical")
    ]
    assert serious == []
