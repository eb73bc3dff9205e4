import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from kd_cli.app import markup
from kd_cli.app.markup import Measure
from kd_cli.config import Role


def widths(html: str) -> list[float]:
    return [float(width) for width in re.findall(r"width:([\d.]+)%", html)]


def test_bars_of_one_scale_compare_across_rows() -> None:
    rows = [Measure("small", ["4", "6"], [4, 6], "errors"), Measure("large", ["16", "20"], [16, 20], "errors")]
    assert widths(markup.side_by_side(["a", "b"], rows, "")) == [20, 30, 80, 100]


def test_bars_of_different_scales_do_not() -> None:
    rows = [Measure("errors", ["4", "8"], [4, 8], "errors"), Measure("bytes", ["50", "100"], [50, 100], "bytes")]
    assert widths(markup.side_by_side(["a", "b"], rows, "")) == [50, 100, 50, 100]


def test_nothing_but_zeros_has_bars_without_length() -> None:
    assert widths(markup.side_by_side(["a", "b"], [Measure("errors", ["0", "0"], [0, 0], "errors")], "")) == [0, 0]


def test_a_measure_without_values_has_no_bars() -> None:
    assert widths(markup.side_by_side(["a", "b"], [Measure("accuracy", ["99%", "98%"])], "")) == []


def test_the_most_probable_class_stands_out() -> None:
    html = markup.probabilities("Teacher", [("cat", 0.3), ("dog", 0.7)], Role.teacher)
    assert re.findall(r"class=kd-most><th scope=\"row\">(\w+)", html) == ["dog"]
    assert widths(html) == [30, 70]


def test_the_shade_of_a_confusion_matrix_depends_on_the_scale_that_is_given() -> None:
    counts = [[9, 1], [2, 8]]
    shades = [re.findall(r"/ ([\d.]+)\)", markup.confusion("a", counts, ["cat", "dog"], most)) for most in (2, 4)]
    assert shades == [["0.25", "0.50"], ["0.12", "0.25"]]


@pytest.mark.parametrize(
    "html",
    [
        markup.heading("<b>"),
        markup.verdict("<b>", "<b>"),
        markup.verdict("<b>", "cat"),
        markup.table(["<b>"], [["<b>", "<b>"]]),
        markup.side_by_side(["<b>", "<b>"], [Measure("<b>", ["<b>", "<b>"])], "<b>"),
        markup.signed_bars(["<b>"], {"<b>": [1.0]}),
        markup.probabilities("<b>", [("<b>", 1.0)], Role.student, "<b>"),
        markup.confusion("<b>", [[1]], ["<b>"], 1),
    ],
)
def test_text_is_never_taken_for_html(html: str) -> None:
    assert "<b>" not in html.lower()
    assert "&lt;b&gt;" in html.lower()


MANY = [(f"species {i}", i / 4950) for i in range(100)]


def test_of_many_classes_the_most_probable_are_shown_and_the_others_summed() -> None:
    html = markup.probabilities("Teacher", MANY, Role.teacher)
    shown = re.findall(r'<th scope="row">([\w ]+)', html)
    assert shown == [*(f"species {i}" for i in range(99, 89, -1)), "90 others"]
    assert sum(widths(html)) == pytest.approx(100, abs=0.1)


def test_of_many_classes_the_largest_gradients_are_shown() -> None:
    names, values = zip(*MANY, strict=True)
    html = markup.signed_bars(names, {"sum": [-value for value in values]})
    assert re.findall(r'<th scope="row">([\w ]+)', html) == [f"species {i}" for i in range(99, 89, -1)]


def test_a_long_name_of_a_class_is_whole_in_its_title() -> None:
    name = "a name that no column holds"
    assert f'title="{name}"' in markup.probabilities("Teacher", [(name, 0.3), ("dog", 0.7)], Role.teacher)


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB"), (4, "RGBA")])
def test_images_of_any_channels_are_shown(channels: int, mode: str) -> None:
    html = markup.image(np.zeros((channels, 24, 40), np.uint8), "what it is", 140)
    content = re.findall(r"base64,([^\"]+)", html)[0]
    shown = Image.open(io.BytesIO(base64.b64decode(content)))
    assert (shown.mode, shown.size) == (mode, (40, 24))


def test_text_says_in_markdown_what_it_says() -> None:
    assert markup.as_markdown("a_b*c$d.png") == r"a\_b\*c\$d.png"
