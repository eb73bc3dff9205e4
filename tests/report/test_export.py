"""What is said of an exported network."""

import pytest

from kd_cli.commands.results import PageResult
from kd_cli.report.export import print_export, print_page
from tests.report.conftest import Printed
from tests.report.results import export_result


def lines_of(text: str) -> list[str]:
    return [" ".join(line.replace("│", "").split()) for line in text.splitlines()]


def test_the_exported_network_stands_beside_its_original(printed: Printed) -> None:
    lines = lines_of(printed(print_export, export_result(precision="int8")))
    assert lines[0] == "Student mlp-128 on some-data, exported: 1,000 test images"
    for line in (
        "Format checkpoint onnx",
        "Numbers float32 int8",
        "Bytes on disk 408,280 409,032",
        "Accuracy 98.40% 98.50%",
        "Errors 16 15",
        "Largest difference of a logit: 2.1e-05.",
        "Same class predicted for 999 of 1,000 images.",
        "Student: models/student.safetensors",
        "Exported: models/student.onnx",
    ):
        assert line in lines


def test_random_pixels_have_no_accuracy(printed: Printed) -> None:
    nothing = {"accuracy": None, "original_accuracy": None, "error_count": None, "original_error_count": None}
    out = printed(print_export, export_result(random_pixels=True, images=256, **nothing))
    assert lines_of(out)[0] == "Student mlp-128 on some-data, exported: 256 random images"
    assert "Accuracy" not in out
    assert "Errors" not in out


@pytest.mark.parametrize(("format", "shown"), [("onnx", True), ("pt2", False)])
def test_how_to_use_it_is_said_of_what_kd_can_use(printed: Printed, format: str, shown: bool) -> None:
    out = printed(print_export, export_result(format=format))
    assert ("Use it: kd predict --model models/student.onnx IMAGE\n" in out) is shown


def test_a_long_path_is_neither_cut_nor_folded(printed: Printed) -> None:
    path = "/".join(["folder"] * 40) + "/student.onnx"
    assert f"Exported: {path}\n" in printed(print_export, export_result(file=path))


def test_a_page_says_what_its_networks_are_and_how_to_look_at_it(printed: Printed) -> None:
    network = export_result(file="page/networks.js")
    lines = lines_of(printed(print_page, PageResult("some-data", "cpu", "cpu", "page", 5_930_000, (network, network))))
    assert lines.count("Student mlp-128 on some-data, exported: 1,000 test images") == 2
    assert lines[-2:] == [
        "Page: page/index.html, 5,930,000 bytes with all that it needs.",
        "Open it in a browser, or put the folder on any web server.",
    ]
    assert not any(line.startswith(("Exported:", "Use it:")) for line in lines)
