"""Files and command lines that nobody foresaw: never a traceback, and nothing false is taken for true."""

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from kd_cli import download, pictures, predict
from kd_cli.checkpoint import Checkpoint, Metadata, load_checkpoint, save_checkpoint
from kd_cli.data import Dataset
from kd_cli.networks import Network, build
from kd_cli.settings import KdError, parse_spec
from tests.conftest import CommandLine
from tests.mutations import mutated

CPU = torch.device("cpu")

FUZZ = settings(
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
    database=None,
)
FEW, MANY = 100, 2000


def sizes(few: int = FEW, many: int = MANY) -> pytest.MarkDecorator:
    """A few examples by default, many in CI."""
    return pytest.mark.parametrize("examples", [few, pytest.param(many, marks=pytest.mark.slow)])


def load(path: Path) -> Checkpoint | None:
    """The checkpoint, or None where it is refused as it should be: in one line."""
    try:
        return load_checkpoint(path, CPU)
    except KdError as error:
        message = str(error)
    assert "\n" not in message
    return None


@pytest.fixture
def network() -> Network:
    torch.manual_seed(0)
    return build(parse_spec("mlp-8"))


@sizes()
def test_mutated_checkpoint_is_refused_in_one_line_or_is_what_was_written(
    tmp_path: Path, network: Network, metadata: Metadata, examples: int
) -> None:
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(path, network, metadata)
    original = path.read_bytes()
    header = int.from_bytes(original[:8], "little") + 8

    @settings(FUZZ, max_examples=examples)
    @given(mutated(original, focus=header))
    def check(content: bytes) -> None:
        path.write_bytes(content)
        loaded = load(path)
        if loaded is None:
            return
        assert loaded.metadata == metadata
        for name, tensor in network.state_dict().items():
            assert torch.equal(loaded.network.state_dict()[name], tensor)

    check()


@sizes()
def test_mutated_state_dict_is_refused_in_one_line_or_is_a_network(
    tmp_path: Path, network: Network, examples: int
) -> None:
    path = tmp_path / "plain.pth"
    torch.save(network.state_dict(), path)

    @settings(FUZZ, max_examples=examples)
    @given(mutated(path.read_bytes(), focus=1500))
    def check(content: bytes) -> None:
        path.write_bytes(content)
        loaded = load(path)
        if loaded is not None:  # a plain state dict has no seal: other weights cannot be noticed, another shape can
            assert loaded.network(torch.zeros(1, 1, 28, 28)).shape == (1, 10)

    check()


@sizes(few=5, many=300)
def test_mutated_archive_is_found_and_named(
    tmp_path: Path, archives: Path, no_network: None, monkeypatch: pytest.MonkeyPatch, examples: int
) -> None:
    raw = tmp_path / "raw"
    shutil.copytree(archives, raw)
    victim = raw / "t10k-labels-idx1-ubyte.gz"
    original = victim.read_bytes()

    @settings(FUZZ, max_examples=examples)
    @given(mutated(original))
    def check(content: bytes) -> None:
        victim.write_bytes(content)
        staging = tmp_path / "staging"
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir()
        answer = download._fetch_and_unpack(
            {"class": "MNIST", "archives": str(raw), "staging": str(staging), "mirrors": None}
        )
        if content == original:
            assert "prepared" in answer
        else:
            assert answer == {"damaged": str(victim)}

    check()


def picture_file(kind: str, digit: NDArray[np.uint8]) -> bytes:
    """The digit, black on white, as a small file of this kind."""
    file = io.BytesIO()
    mode = "P" if kind == "GIF" else "RGB"
    Image.fromarray(255 - np.kron(digit, np.ones((2, 2), np.uint8))).convert(mode).save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"])
@sizes(few=30, many=340)
def test_mutated_picture_is_refused_in_one_line_or_read_soon(digits: Dataset, kind: str, examples: int) -> None:
    original = picture_file(kind, digits.test.images[0].numpy())

    # Six kinds make two thousand files. The deadline is for a file that would keep the program busy for ever.
    @settings(FUZZ, max_examples=examples, deadline=10_000)
    @given(mutated(original, focus=100))
    def check(content: bytes) -> None:
        try:
            seen = predict.from_page(pictures.read_page(io.BytesIO(content), "picture"))
        except KdError as error:
            refusal = str(error)
            assert "\n" not in refusal
        else:
            assert seen.shape == (28, 28)

    check()


WORDS = [
    *("train-teacher", "distill", "evaluate", "predict"),
    *("--dataset", "digits", "--epochs", "1", "0", "-1", "nan", "1e999", "--batch-size", "64", "--lr", "0.001"),
    *("--schedule", "cosine", "--augment", "--seed", "7", "--device", "cpu", "cuda", "--json", "--help", "--version"),
    *("--arch", "cnn-2", "mlp-4", "cnn-99999999999", "--student", "--teacher", "--temperature", "4", "--alpha", "0.5"),
    *("--method", "kd", "dkd", "at", "nonsense", "--weight", "--ensemble", "--resume", "--output", "file", "folder"),
    *("--models-dir", "--data-dir", "--", "-", "", "\x00", "ünï", "*.png", "a" * 300),
]


@sizes(few=60, many=1000)
def test_any_command_line_ends_with_a_documented_exit_code(
    kd: CommandLine, monkeypatch: pytest.MonkeyPatch, examples: int
) -> None:
    monkeypatch.setenv("KD_DATA_DIR", str(Path("data").absolute()))  # nothing but digits can be had from here
    Path("folder").mkdir()
    Path("file").write_bytes(b"junk")
    commands = st.sampled_from(WORDS[:4])
    words = st.one_of(st.sampled_from(WORDS), st.text(max_size=8))

    @settings(FUZZ, max_examples=examples)
    @given(commands, st.lists(words, max_size=8))
    def check(command: str, rest: list[str]) -> None:
        code, _, stderr = kd(command, "--dataset", "digits", "--epochs", "1", *rest)
        assert code in (0, 1, 2, 130)
        assert "Traceback" not in stderr

    check()
