"""Tables of what there is to choose from."""

import json

import pytest

from kd_cli.commands.listing import LayerList, ListedLayer
from kd_cli.distillation.methods import METHODS
from kd_cli.report.listing import print_layers
from tests.conftest import CommandLine

LAYERS = LayerList(
    architecture="nets.py:[b]small",
    image_shape=(3, 24, 40),
    classes=1000,
    layers=(
        ListedLayer("conv", "Conv2d", (8, 24, 40)),
        ListedLayer("memory", "LSTM", None),
        ListedLayer("head", "Linear", (1000,)),
    ),
    penultimate="input of head",
    maps="conv",
)


def test_layers_are_shown_with_where_methods_read_them(capsys: pytest.CaptureFixture[str]) -> None:
    print_layers(LAYERS)
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in capsys.readouterr().out.splitlines()]
    assert [row for row in rows if row] == [
        ["conv", "Conv2d", "Nx8x24x40", "maps: conv"],
        ["memory", "LSTM", "no single tensor", ""],
        ["head", "Linear", "Nx1000", "penultimate: input of head"],
    ]


def test_the_images_are_named_and_markup_in_names_is_not_obeyed(capsys: pytest.CaptureFixture[str]) -> None:
    print_layers(LAYERS)
    output = " ".join(capsys.readouterr().out.split())
    assert "nets.py:[b]small" in output
    assert "shape 3x24x40, 1,000 classes" in output


def test_what_a_network_lacks_is_said(kd: CommandLine) -> None:
    code, stdout, _ = kd("list", "layers", "mlp-4")
    assert code == 0
    assert "No maps by default: methods that read them need --student-layer or --teacher-layer." in stdout


@pytest.mark.parametrize("what", ["methods", "networks", "datasets"])
def test_lists_are_tables_or_one_json_object(kd: CommandLine, what: str) -> None:
    code, stdout, stderr = kd("list", what, "--json")
    assert (code, stderr) == (0, "")
    rows = json.loads(stdout)[what]
    code, stdout, stderr = kd("list", what)
    assert (code, stderr) == (0, "")
    assert len(rows) > 3


def test_methods_are_listed_with_papers_and_defaults(kd: CommandLine) -> None:
    stdout = " ".join(kd("list", "methods")[1].split())
    assert all(name in stdout for name in METHODS)
    assert "T 4, alpha 0.9" in stdout
    assert "weight 1 to 10000" in stdout
    assert "kd tune also searches --lr: 0.0001 to 0.03" in stdout


def test_list_alone_shows_what_can_be_listed(kd: CommandLine) -> None:
    assert kd("list") == kd("list", "--help")
    assert kd("list")[0] == 0


@pytest.mark.parametrize("arguments", [["nonsense"], ["layers"], ["layers", "mlp-4", "--shape", "3"]])
def test_usage_errors_are_one_line_and_exit_code_2(kd: CommandLine, arguments: list[str]) -> None:
    code, stdout, stderr = kd("list", *arguments)
    assert (code, stdout) == (2, "")
    assert stderr.count("\n") == 1
    assert stderr.endswith("see kd list --help\n")
