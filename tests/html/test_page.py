"""The page in a real Chromium, from the disk, as somebody uses it."""

import base64
import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from kd_cli.config import Role
from kd_cli.data.dataset import DataInfo
from kd_cli.digits.decode import read_resized
from kd_cli.digits.mnist_format import read_digits
from kd_cli.networks.metadata import Metadata
from tests.app import browser, strokes
from tests.app.images import as_png
from tests.conftest import ROOT, CommandLine, read_json
from tests.html.drawings import draw
from tests.html.serving import serve

pytest.importorskip("onnxruntime", reason="needs the extra export: pip install -e '.[export]'")
playwright = pytest.importorskip("playwright.sync_api", reason="needs Playwright: pip install -e '.[dev]'")

from tests.html.pages import COLOURED, export_fresh, export_shipped, write_page  # noqa: E402

CHROMIUM = browser.find_chromium()

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed: apt-get install chromium"),
]

AXE = Path(os.environ.get("KD_AXE", ROOT / "build" / "axe" / "package" / "axe.min.js"))

SEVEN = strokes.DRAWN[8][1]
BOTH, STUDENT = (Role.teacher, Role.student), (Role.student,)

PIXELS_SEEN = """(canvas) => {
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    return [...data];
}"""

DRAWING = """(canvas) => {
    const small = document.createElement("canvas");
    small.width = small.height = 280;
    small.getContext("2d").drawImage(canvas, 0, 0, 280, 280);
    return small.toDataURL("image/png").split(",")[1];
}"""

DROP = """([kind, name, type, content]) => {
    const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
    const data = new DataTransfer();
    data.items.add(new File([bytes], name, { type }));
    const event = kind === "drop" ? new DragEvent(kind, { dataTransfer: data, bubbles: true, cancelable: true })
        : new ClipboardEvent(kind, { clipboardData: data, bubbles: true });
    document.body.dispatchEvent(event);
}"""

Open = Callable[..., Any]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        yield driver.chromium.launch(executable_path=CHROMIUM, args=browser.CHROMIUM_FLAGS)


@pytest.fixture(scope="module")
def addresses(shipped: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[Role, ...], str]:
    """Of a page with both of MNIST's networks, and of one with the student."""
    folder = tmp_path_factory.mktemp("html")
    networks = {role: export_shipped(shipped, folder, role) for role in Role}
    return {
        roles: write_page([networks[role] for role in roles], folder / str(len(roles))) for roles in (BOTH, STUDENT)
    }


@pytest.fixture
def open_page(chromium: Any) -> Iterator[Open]:
    """Open a page of which nothing but its own files may be asked for, and whose scripts may not fail."""
    contexts: list[Any] = []
    wrong: list[str] = []

    def open_address(address: str, **options: Any) -> Any:
        context = chromium.new_context(**{"viewport": {"width": 1200, "height": 1000}} | options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        own = (address.rsplit("/", 1)[0], "data:", "blob:")
        page.on("request", lambda request: wrong.extend([request.url] if not request.url.startswith(own) else []))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda message: wrong.extend([message.text] if message.type == "error" else []))
        page.goto(address)
        return page

    yield open_address
    for context in contexts:
        context.close()
    assert wrong == []


@pytest.fixture
def page(open_page: Open, addresses: dict[tuple[Role, ...], str]) -> Any:
    """The page with both networks."""
    return open_page(addresses[BOTH])


def draw_digit(page: Any, digit: list[strokes.Stroke]) -> None:
    for stroke in digit:
        browser.draw(page, stroke)


def expect_answer(page: Any, text: str) -> None:
    page.locator("#verdict", has_text=text).wait_for()


def see_pixels(page: Any) -> NDArray[np.uint8]:
    """What the page says that the networks saw, (height, width, 3)."""
    canvas = page.locator(".kd-pixels")
    height, width = (int(canvas.get_attribute(name)) for name in ("height", "width"))
    return np.array(canvas.evaluate(PIXELS_SEEN), np.uint8).reshape(height, width, 4)[..., :3]


def choose_file(page: Any, content: bytes, name: str = "image.png") -> None:
    page.locator("input[type=file]").set_input_files([{"name": name, "mimeType": "image/png", "buffer": content}])


@pytest.mark.parametrize(("digit", "drawing"), strokes.CASES)
def test_a_digit_is_predicted_by_both_from_the_pixels_that_kd_predict_makes(
    page: Any, digit: int, drawing: list[strokes.Stroke]
) -> None:
    draw_digit(page, drawing)
    expect_answer(page, f"Both predict {digit}.")
    png = base64.b64decode(page.locator(".board canvas").evaluate(DRAWING))
    (expected,) = read_digits(io.BytesIO(png), "drawing", every=False)
    np.testing.assert_array_equal(see_pixels(page)[..., 0], expected.image)


def test_a_plain_web_server_serves_it(addresses: dict[tuple[Role, ...], str], open_page: Open) -> None:
    with serve(Path(addresses[BOTH].removeprefix("file://")).parent) as address:
        page = open_page(f"{address}/index.html")
        draw_digit(page, SEVEN)
        expect_answer(page, "Both predict 7.")


def test_the_browser_lets_the_page_send_nothing(chromium: Any, addresses: dict[tuple[Role, ...], str]) -> None:
    with chromium.new_context() as context:
        page = context.new_page()
        page.goto(addresses[STUDENT])
        sent = page.evaluate("fetch('data:text/plain,a').then(() => 'sent', (error) => `${error}`)")
    assert "Failed to fetch" in sent


def test_the_student_alone(open_page: Open, addresses: dict[tuple[Role, ...], str]) -> None:
    page = open_page(addresses[STUDENT])
    draw_digit(page, SEVEN)
    expect_answer(page, "The student predicts 7.")
    assert page.locator(".kd-bars").count() == 1


def test_probabilities_are_those_of_kd_predict(page: Any, kd: CommandLine, shipped: Path) -> None:
    png = as_png(draw(SEVEN, width=7))
    Path("seven.png").write_bytes(png)
    answer = kd("predict", "--json", "--dataset", "mnist", "--models-dir", shipped, "seven.png")
    (expected,) = read_json(answer)["images"]
    choose_file(page, png)
    expect_answer(page, "Both predict 7.")
    shown = page.locator(".kd-bars td:last-child").all_inner_texts()
    both = [*expected["teacher"]["probabilities"], *expected["student"]["probabilities"]]
    assert shown == [f"{100 * value:.1f} %" for value in both]


def test_undo_takes_back_a_stroke_and_clear_all(page: Any) -> None:
    draw_digit(page, strokes.DRAWN[9][1])
    expect_answer(page, "Both predict 7.")
    page.get_by_role("button", name="Undo").click()
    expect_answer(page, "Both predict 7.")
    page.get_by_role("button", name="Clear").click()
    expect_answer(page, "Draw one digit")
    assert not page.locator("#predictions").is_visible()
    assert page.get_by_role("button", name="Undo").is_disabled()


def press(page: Any, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def test_the_keyboard_draws(page: Any) -> None:
    press(page, "Tab")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Drawing area"
    press(page, " ", *["ArrowDown"] * 20, " ")
    expect_answer(page, "Both predict 1.")
    press(page, "Backspace")
    expect_answer(page, "Draw one digit")
    press(page, *["ArrowUp"] * 20, *["ArrowLeft"] * 5, " ", *["ArrowRight"] * 12)
    page.keyboard.down("ArrowLeft")
    page.keyboard.down("ArrowDown")
    for _ in range(10):
        page.keyboard.down("ArrowDown")
    page.keyboard.up("ArrowDown")
    page.keyboard.up("ArrowLeft")
    press(page, *["ArrowDown"] * 8, " ")
    expect_answer(page, "Both predict 7.")
    press(page, "Delete")
    expect_answer(page, "Draw one digit")


def test_a_finger_draws_on_a_phone_and_nothing_is_wider_than_it(
    open_page: Open, addresses: dict[tuple[Role, ...], str]
) -> None:
    phone = open_page(addresses[BOTH], viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    box = phone.locator(browser.BOARD).bounding_box()
    devtools = phone.context.new_cdp_session(phone)
    scale = box["width"] / strokes.SIDE
    points = [{"x": box["x"] + x * scale, "y": box["y"] + y * scale} for x, y in SEVEN[0]]
    for kind, touches in [("touchStart", points[:1]), *(("touchMove", [p]) for p in points[1:]), ("touchEnd", [])]:
        devtools.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": touches})
    expect_answer(phone, "Both predict 7.")
    assert phone.evaluate("document.documentElement.scrollWidth") <= 360
    answer = phone.locator("#verdict").bounding_box()
    assert answer["y"] + answer["height"] <= 740


@pytest.mark.parametrize("kind", ["drop", "paste", "choose"])
def test_an_image_is_predicted_however_it_is_given(page: Any, kind: str) -> None:
    png = as_png(255 - draw(SEVEN))
    if kind == "choose":
        choose_file(page, png)
    else:
        page.evaluate(DROP, [kind, "seven.png", "image/png", base64.b64encode(png).decode()])
    expect_answer(page, "Both predict 7.")
    (expected,) = read_digits(io.BytesIO(png), "image", every=False)
    np.testing.assert_array_equal(see_pixels(page)[..., 0], expected.image)
    assert page.locator("#preview").is_visible()


def test_white_ink_on_nothing_is_seen(page: Any) -> None:
    ink = 255 - draw(SEVEN)[..., :1]
    choose_file(page, as_png(np.dstack([np.full((280, 280, 3), 255, np.uint8), ink])))
    expect_answer(page, "Both predict 7.")


def test_what_cannot_be_read_gets_a_message_and_the_next_image_is_predicted(page: Any) -> None:
    choose_file(page, b"no image at all", "text.png")
    expect_answer(page, "text.png is no image that this browser can read.")
    choose_file(page, as_png(np.full((300, 300), 255, np.uint8)), "blank.png")
    expect_answer(page, "blank.png is blank: use an image with something on it.")
    choose_file(page, as_png(np.zeros((8000, 8000), np.uint8)), "large.png")
    expect_answer(page, "large.png has too many pixels: make it smaller.")
    choose_file(page, as_png(draw(SEVEN)))
    expect_answer(page, "Both predict 7.")


def test_several_digits_are_said_to_be_several(page: Any) -> None:
    choose_file(page, as_png(np.hstack([draw(SEVEN), draw(strokes.DRAWN[1][1])])))
    page.get_by_text("These are 2 digits: the one with most ink is read.").wait_for()
    expect_answer(page, "Both predict 7.")


def test_what_is_no_digit_is_doubted(page: Any) -> None:
    corners = [(60, 60), (220, 60), (220, 220), (60, 220), (60, 60)]
    choose_file(page, as_png(draw([corners, [(60, 60), (220, 220)], [(220, 60), (60, 220)]])))
    expect_answer(page, "Not sure: the image may show none of the classes.")


def test_images_that_are_no_handwriting(open_page: Open, metadata: Metadata, tmp_path: Path) -> None:
    network = export_fresh(COLOURED, metadata, tmp_path)
    page = open_page(write_page([network], tmp_path / "page"))
    assert not page.locator(".board").is_visible()
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    choose_file(page, as_png(image))
    seen = read_resized(io.BytesIO(as_png(image)), "image", COLOURED.shape)
    best = int(network.compute_logits(seen[np.newaxis]).argmax())
    expect_answer(page, f"The student predicts {COLOURED.classes[best]}.")
    np.testing.assert_array_equal(see_pixels(page), image)


def test_of_many_classes_the_most_probable_ones_are_shown(open_page: Open, metadata: Metadata, tmp_path: Path) -> None:
    classes = tuple(f"a class with a long name, number {number}" for number in range(30))
    data = DataInfo("many", classes, (1, 28, 28), (0.5,), (0.25,), digest="")
    page = open_page(write_page([export_fresh(data, metadata, tmp_path)], tmp_path / "page"))
    choose_file(page, as_png(draw(SEVEN)))
    expect_answer(page, "The student predicts a class")
    names = page.locator(".kd-bars tbody th").all_inner_texts()
    assert len(names) == 11
    assert names[-1] == "20 others"
    assert "kd-most" in page.locator(".kd-bars tbody tr").first.get_attribute("class")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_violation(open_page: Open, addresses: dict[tuple[Role, ...], str], scheme: str) -> None:
    if not AXE.exists():
        pytest.skip(f"axe-core is not in {AXE}: npm pack axe-core, unpack it there, or set KD_AXE to its axe.min.js")
    page = open_page(addresses[BOTH], color_scheme=scheme)
    draw_digit(page, SEVEN)
    expect_answer(page, "Both predict 7.")
    page.evaluate(AXE.read_text(encoding="utf-8"))
    violations = page.evaluate("axe.run({ preload: false }).then(result => result.violations)")
    assert [each["id"] for each in violations if each["impact"] in ("serious", "critical")] == []
