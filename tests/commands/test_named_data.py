"""Of a data set that is named, ``kd predict`` takes the networks that ``kd evaluate`` takes, and no others."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from kd_cli.config import Role
from kd_cli.networks.build import build_network
from kd_cli.networks.checkpoint import checkpoint_path
from kd_cli.networks.spec import parse_spec
from tests.conftest import CommandLine
from tests.data.images import make_folder
from tests.digits.images import draw_seven

DIGITS = ("--dataset", "digits", "--device", "cpu")


@pytest.fixture
def networks(kd: CommandLine, shipped: Path) -> dict[str, Path]:
    """Networks of all kinds, by what they are."""
    Image.fromarray(255 - draw_seven()).save("7.png")
    torch.manual_seed(0)
    torch.save(build_network(parse_spec("mlp-8")).state_dict(), "plain.pth")
    torch.save(build_network(parse_spec("mlp-8"), classes=3).state_dict(), "plain-3.pth")
    make_folder(Path("pics"), classes=3, each=4, height=28, width=28, channels=1)
    pics = ("--dataset", "pics", "--data-dir", "data", "--epochs", "1", "--force")
    assert kd("train-teacher", *pics, "--arch", "mlp-4", "-o", "pics.safetensors")[0] == 0
    return {
        "plain": Path("plain.pth"),
        "plain of 3 classes": Path("plain-3.pth"),
        "of a folder": Path("pics.safetensors"),
        "of digits": checkpoint_path(shipped, "digits", Role.student),
        "of mnist": checkpoint_path(shipped, "mnist", Role.student),
    }


def answers(kd: CommandLine, network: Path, beside: tuple[str | Path, ...] = ()) -> list[tuple[int, str]]:
    """The exit codes of both commands, and the last thing that each has to say."""
    found = []
    for command in (("evaluate", network), ("predict", "7.png", "--student", network, *beside)):
        code, _, stderr = kd(*command, *DIGITS)
        found.append((code, stderr.splitlines()[-1] if stderr else ""))
    return found


@pytest.mark.parametrize("teacher", ["none", "the same"])
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("plain", "plain.pth does not say what it was trained on: assumed digits, pixels with mean 0."),
        ("of digits", ""),
        ("of mnist", "student.safetensors was trained on mnist, not on digits: use --dataset mnist"),
        ("plain of 3 classes", "plain-3.pth tells 3 classes apart, but digits has 10"),
        ("of a folder", "pics.safetensors tells 3 classes apart, but digits has 10"),
    ],
)
def test_both_commands_say_the_same_of_a_network(
    kd: CommandLine, networks: dict[str, Path], kind: str, message: str, teacher: str
) -> None:
    beside = ("--teacher", networks[kind]) if teacher == "the same" else ()
    evaluated, predicted = answers(kd, networks[kind], beside)
    assert evaluated == predicted
    assert message in predicted[1]
    assert predicted[0] == (0 if kind in ("plain", "of digits") else 1)


def test_a_network_of_the_data_set_is_enough_to_predict(
    kd: CommandLine, networks: dict[str, Path], no_network: None
) -> None:
    code, _, stderr = kd("predict", "7.png", "-d", "mnist", "--data-dir", "nowhere", "--student", networks["of mnist"])
    assert (code, stderr) == (0, "")
    assert not Path("nowhere").exists()
