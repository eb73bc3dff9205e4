"""What a command reads is never replaced by what it writes, not even by force, by whatever path."""

import os
import shutil
import sys
from pathlib import Path

import pytest

from tests.conftest import CommandLine, make_dataset
from tests.data.images import make_folder
from tests.sources import register

NETS = """
from layers import last
from torch import nn

def make(num_classes):
    return nn.Sequential(nn.Flatten(), last(num_classes))
"""

LAYERS = """
from torch import nn

def last(classes):
    return nn.Linear(784, classes)
"""

TEACHER = "runs/models/digits/teacher.safetensors"
IMAGE = "pics/test/class 0/0.png"
QUICK = ("--epochs", "1", "--device", "cpu", "--force")
DIGITS = ("--dataset", "digits", *QUICK)
PICS = ("--dataset", "pics", "--data-dir", "data", *QUICK)
COMPARE = ("--students", "mlp-4", "--seeds", "1", "--jobs", "1")


@pytest.fixture
def user(kd: CommandLine, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """The command line in a folder with a user's images and networks, and what was trained with them."""
    monkeypatch.delitem(sys.modules, "layers", raising=False)  # another test's
    for part in ("train", "test"):
        make_folder(Path("pics") / part, classes=2, each=3, height=28, width=28, channels=1)
    Path("nets.py").write_text(NETS)
    Path("layers.py").write_text(LAYERS)
    for command in (
        ("train-teacher", *DIGITS, "--arch", "mlp-4"),
        ("train-teacher", *PICS, "--arch", "mlp-4"),
        ("distill", *DIGITS, "--student", "nets.py:make", "-o", "own.safetensors"),
    ):
        code, _, stderr = kd(*command)
        assert code == 0, stderr
    shutil.copy(next(Path("runs/models").glob("pics-*")) / "teacher.safetensors", "of-pics.safetensors")
    shutil.copy(TEACHER, "weights.png")
    Path("weights-link.png").symlink_to("weights.png")
    Path("link.png").symlink_to(IMAGE)
    os.link(IMAGE, "hard-link.png")
    return kd


@pytest.mark.parametrize(
    ("command", "output"),
    [
        (("train-teacher", *DIGITS, "--arch", "nets.py:make", "-o"), "nets.py"),
        (("train-teacher", *DIGITS, "--arch", "nets.py:make", "-o"), "layers.py"),
        (("train-teacher", *DIGITS, "--arch", "mlp-4", "--init", "weights.png", "--plot"), "weights.png"),
        (("train-teacher", *PICS, "--arch", "mlp-4", "-o"), IMAGE),
        (("train-teacher", *PICS, "--arch", "mlp-4", "-o"), "link.png"),
        (("train-teacher", *PICS, "--arch", "mlp-4", "-o"), "hard-link.png"),
        (("train-teacher", *PICS, "--arch", "mlp-4", "--plot"), IMAGE),
        (("distill", *DIGITS, "--student", "nets.py:make", "-o"), "nets.py"),
        (("distill", *DIGITS, "--student", "mlp-4", "--teacher", "weights.png", "--plot"), "weights.png"),
        (("distill", *PICS, "--student", "mlp-4", "-o"), IMAGE),
        (("distill", *PICS, "--student", "mlp-4", "--plot"), IMAGE),
        (("compare", *DIGITS, *COMPARE, "--csv"), TEACHER),
        (("compare", *DIGITS, *COMPARE, "--students", "mlp-4,nets.py:make", "--csv"), "nets.py"),
        (("compare", *DIGITS, *COMPARE, "--teacher", "weights.png", "--plot"), "weights.png"),
        (("compare", *PICS, *COMPARE, "--csv"), IMAGE),
        (("compare", *PICS, *COMPARE, "--plot"), IMAGE),
        (("evaluate", "of-pics.safetensors", "--data-dir", "data", "--force", "--plot"), IMAGE),
        (("evaluate", "-d", "digits", "weights.png", "--force", "--plot"), "weights.png"),
        (("evaluate", "-d", "digits", "weights.png", "--force", "--plot"), "weights-link.png"),
        (("benchmark", "-d", "digits", "weights.png", "--force", "--plot"), "weights.png"),
        (("benchmark", "of-pics.safetensors", "--data-dir", "data", "--force", "--plot"), IMAGE),
        (("predict", IMAGE, "-d", "digits", "--force", "--csv"), TEACHER),
        (("predict", IMAGE, "--student", "own.safetensors", "--trust", "nets.py", "--force", "--csv"), "nets.py"),
        (("predict", IMAGE, "--student", "own.safetensors", "--trust", "nets.py", "--force", "--csv"), "layers.py"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value[:1] + value[-1:]),
)
@pytest.mark.usefixtures("short_measurements")
def test_an_input_is_never_replaced(user: CommandLine, command: tuple[str, ...], output: str) -> None:
    before = Path(output).read_bytes()
    code, stdout, stderr = user(*command, output)
    assert (code, stdout) == (1, ""), stderr
    assert f"cannot write {output}: the command reads it" in stderr.splitlines()[-1]
    assert Path(output).read_bytes() == before


def test_archives_of_a_data_set_are_inputs(kd: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, "three", make_dataset(classes=3))
    archive = Path("data/three/raw/images.gz")
    archive.parent.mkdir(parents=True)
    archive.write_bytes(b"archive")
    code, _, stderr = kd("train-teacher", "-d", "three", "--data-dir", "data", *QUICK, "-o", archive)
    assert (code, "the command reads it" in stderr) == (1, True)
    assert archive.read_bytes() == b"archive"


def test_what_is_no_image_of_a_folder_may_be_replaced_there(user: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("pics")
    here = ("--dataset", ".", "--data-dir", "../data", *QUICK)
    for _ in range(2):
        assert user("train-teacher", *here, "--arch", "mlp-4", "-o", "train/new.safetensors")[0] == 0
        assert user("train-teacher", *here, "--arch", "mlp-4", "--plot", "new.png")[0] == 0
