"""Files and command lines that nobody foresaw: never a traceback, and nothing false is taken for true."""

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from kd_cli.config import KdError
from kd_cli.data import download
from kd_cli.digits.mnist_format import Image28, read_digits
from kd_cli.networks.build import build_network
from kd_cli.networks.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from kd_cli.networks.metadata import Metadata
from kd_cli.networks.spec import parse_spec
from tests.conftest import CommandLine
from tests.mutations import mutated

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")

FUZZ = settings(
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
    database=None,
)


def load(path: Path) -> Checkpoint | None:
    """The checkpoint, or None where it is refused as it should be: in one line."""
    try:
        return load_checkpoint(path, CPU)
    except KdError as error:
        message = str(error)
    assert "\n" not in message
    return None


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return build_network(parse_spec("mlp-8"))


def test_a_mutated_checkpoint_is_refused_in_one_line_or_is_what_was_written(
    tmp_path: Path, network: nn.Module, metadata: Metadata
) -> None:
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(path, network, metadata)
    original = path.read_bytes()
    header = int.from_bytes(original[:8], "little") + 8

    @settings(FUZZ, max_examples=2000)
    @given(mutated(original, focus=header))
    def check(content: bytes) -> None:
        path.write_bytes(content)
        loaded = load(path)
        if loaded is None:
            return
        assert loaded.metadata == metadata
        for name, tensor in network.state_dict().items():
            assert torch.equal(loaded.classifier.network.state_dict()[name], tensor)

    check()


def test_a_mutated_state_dict_is_refused_in_one_line_or_is_a_network(tmp_path: Path, network: nn.Module) -> None:
    path = tmp_path / "plain.pth"
    torch.save(network.state_dict(), path)

    @settings(FUZZ, max_examples=2000)
    @given(mutated(path.read_bytes(), focus=1500))
    def check(content: bytes) -> None:
        path.write_bytes(content)
        loaded = load(path)
        if loaded is not None:  # a plain state dict has no digest: other weights cannot be noticed, another shape can
            assert loaded.classifier(torch.zeros(1, 1, 28, 28)).shape == (1, 10)

    check()


def test_a_mutated_archive_is_found_and_named(tmp_path: Path, archives: Path, no_network: None) -> None:
    raw = tmp_path / "raw"
    shutil.copytree(archives, raw)
    victim = raw / "t10k-labels-idx1-ubyte.gz"
    original = victim.read_bytes()

    @settings(FUZZ, max_examples=60)
    @given(mutated(original))
    def check(content: bytes) -> None:
        victim.write_bytes(content)
        scratch = tmp_path / "scratch"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        try:
            tensors = download.fetch("MNIST", raw, scratch)
        except KdError as error:
            refusal = str(error)
            assert content != original
            assert refusal.startswith(f"{victim} is damaged")
            assert "\n" not in refusal
        else:
            assert content == original
            assert len(tensors["test.labels"]) == 10_000

    check()


def encode(kind: str, digit: Image28) -> bytes:
    """The digit, black on white, as a small file of this kind."""
    file = io.BytesIO()
    mode = "P" if kind == "GIF" else "RGB"
    Image.fromarray(255 - np.kron(digit, np.ones((2, 2), np.uint8))).convert(mode).save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"])
def test_a_mutated_image_is_refused_in_one_line_or_read_soon(kind: str) -> None:
    digit = np.zeros((28, 28), np.uint8)
    digit[5:23, 12:16] = 255

    # The deadline is for a file that would keep the program busy for ever.
    @settings(FUZZ, max_examples=340, deadline=10_000)
    @given(mutated(encode(kind, digit), focus=100))
    def check(content: bytes) -> None:
        try:
            seen = read_digits(io.BytesIO(content), "image", every=True)
        except KdError as error:
            refusal = str(error)
            assert "\n" not in refusal
        else:
            assert {digit.image.shape for digit in seen} == {(28, 28)}

    check()


TRAIN = ("--epochs", "1", "--dataset", "digits")
COMMANDS: list[tuple[str, ...]] = [
    *(("train-teacher", *TRAIN), ("distill", *TRAIN), ("evaluate",), ("benchmark",), ("predict",)),
    ("compare", *TRAIN, "--seeds", "1", "--jobs", "1", "--students", "mlp-4", "--results-dir", "results"),
]

OPTIONS = [
    *("--dataset", "--epochs", "--batch-size", "--lr", "--schedule", "--seed", "--device", "--arch", "--student"),
    *("--teacher", "--temperature", "--alpha", "--method", "--weight", "--ensemble", "--output", "--models-dir"),
    *("--data-dir", "--methods", "--temperatures", "--alphas", "--csv", "--plot", "--train-fraction", "--transfer"),
    *("--top", "--save-preprocessed", "--augment"),
]
SWITCHES = [
    "--json",
    "--help",
    "--resume",
    "--show",
    "--labels-from-name",
    "--version",
    "--force",
]
VALUES = [
    *("digits", "0", "1", "7", "-1", "nan", "1e999", "64", "0.001", "0.5", "0.9999", "1,4", "auto", "cpu", "cuda"),
    *("cosine", "cnn-2", "mlp-4", "cnn-99999999999", "kd", "dkd", "at", "kd,rkd", "nonsense", "all", "plot.png"),
    "shift,warp",
    *("file", "folder", "new", "--", "-", "", ".", "\x00", "ünï", "*.png", "a" * 300),
]


@pytest.mark.usefixtures("short_measurements")
def test_any_command_line_ends_with_a_documented_exit_code(kd: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KD_DATA_DIR", str(Path("data").absolute()))  # nothing but digits can be had from here
    Path("folder").mkdir()
    Path("file").write_bytes(b"junk")
    text = st.text(max_size=8).filter(lambda word: "/" not in word)  # it stays in this folder
    values = st.one_of(st.sampled_from(VALUES), text)
    options = st.one_of(st.tuples(st.sampled_from(OPTIONS), values), st.tuples(st.sampled_from(SWITCHES)))
    arguments = st.lists(st.one_of(options, options, options, st.tuples(values)), max_size=4)

    @settings(FUZZ, max_examples=1000)
    @given(st.sampled_from(COMMANDS), arguments)
    def check(command: tuple[str, ...], rest: list[tuple[str, ...]]) -> None:
        code, _, stderr = kd(*command, *(word for words in rest for word in words))
        assert code in (0, 1, 2, 130)
        assert "Traceback" not in stderr

    check()
