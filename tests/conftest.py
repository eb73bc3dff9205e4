"""Data and networks that several test modules share."""

import io
import json
import os
import signal
import socket
import subprocess
import tarfile
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from kd_cli.cli import main
from kd_cli.config import DataConfig, Role
from kd_cli.data.dataset import DataInfo, Dataset, Split
from kd_cli.data.prepared import load
from kd_cli.evaluation import cost, timing
from kd_cli.networks.checkpoint import shipped_models_dir
from kd_cli.networks.classifier import Classifier, build_classifier
from kd_cli.networks.metadata import Metadata
from kd_cli.networks.spec import parse_spec

DATA_DIR = Path(os.environ.get("KD_DATA_DIR", "data")).absolute()
ROOT = Path(__file__).parents[1]
ARCHIVES = DATA_DIR / "MNIST" / "raw"

CommandLine = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True, scope="session")
def no_cache_of_the_user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Teachers' outputs of tests do not go where the user's are, nor come from there; in other processes neither."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("XDG_CACHE_HOME", "KD_CACHE_DIR"):
            patch.setenv(name, str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def archives() -> Path:
    """The folder with MNIST's official archives."""
    if not (ARCHIVES / "train-images-idx3-ubyte.gz").exists():
        pytest.skip(f"MNIST's archives are not in {ARCHIVES}: set KD_DATA_DIR to a folder that has them")
    return ARCHIVES


@pytest.fixture(scope="session")
def mnist(archives: Path) -> Dataset:
    return load(DataConfig("mnist", DATA_DIR))


@pytest.fixture(scope="session")
def mnist_slice(mnist: Dataset) -> Split:
    """The first 3,000 training images of MNIST."""
    return Split(mnist.train.images[:3000], mnist.train.labels[:3000])


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return load(DataConfig("digits", tmp_path_factory.mktemp("digits")))


@pytest.fixture(scope="session")
def tiny() -> Dataset:
    """600 training and 200 test images of ten classes, 28x28, easy to learn, that need no file."""
    return make_dataset()


def make_dataset(classes: int = 10, train: int = 600, test: int = 200) -> Dataset:
    """Blurred random patterns, one for each class, under noise."""
    random = torch.Generator().manual_seed(0)
    patterns = F.interpolate(torch.rand(classes, 1, 7, 7, generator=random), scale_factor=4, mode="bilinear")

    def split(count: int) -> Split:
        labels = torch.arange(count) % classes
        noise = torch.rand(count, 1, 28, 28, generator=random)
        return Split(((patterns[labels] + 0.5 * noise) * 170).clamp(0, 255).to(torch.uint8), labels)

    names = tuple(f"class {number}" for number in range(classes))
    info = DataInfo("tiny", names, (1, 28, 28), (0.45,), (0.2,), digest="tiny")
    return Dataset(info, split(train), split(test))


@pytest.fixture(scope="session")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The committed weights. In a checkout, ``kd train-teacher`` may have put a user's own in their place."""
    archive = subprocess.run(["git", "archive", "HEAD", "models"], cwd=ROOT, capture_output=True, check=False)
    if archive.returncode:
        return shipped_models_dir()
    folder = tmp_path_factory.mktemp("shipped")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
        tar.extractall(folder, filter="data")
    return folder / "models"


@pytest.fixture
def teacher(tiny: Dataset) -> Classifier:
    torch.manual_seed(1)
    return build_classifier(parse_spec("cnn-8"), tiny.info).eval()


@pytest.fixture
def metadata(tiny: Dataset) -> Metadata:
    """What a checkpoint of an ``mlp-8`` student says of itself."""
    return Metadata(
        role=Role.student,
        architecture="mlp-8",
        data=tiny.info,
        method="labels",
        seed=3,
        accuracy=0.5,
        options={"epochs": 1},
    )


@pytest.fixture
def two_threads() -> Iterator[None]:
    """Let torch compute with two threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def kd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    """Run a command in an empty folder: ``kd("evaluate", "--json")`` gives exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KD_DATA_DIR", str(DATA_DIR))
    for name in ("KD_MODELS_DIR", "KD_RESULTS_DIR", "KD_DEBUG"):
        monkeypatch.delenv(name, raising=False)

    def run(*arguments: object) -> tuple[int, str, str]:
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def hear_interrupts() -> None:
    """For ``preexec_fn``: a shell starts its background jobs deaf to Ctrl-C, and the tests may be part of one."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every download fails at once: the proxy that it must go through is not there."""
    _use_proxy(monkeypatch, "127.0.0.1:9")


@pytest.fixture
def silent_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every download connects and then never hears a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        _use_proxy(monkeypatch, f"127.0.0.1:{server.getsockname()[1]}")
        yield


def _use_proxy(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, f"http://{address}")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(urllib.request, "_opener", None)  # one that was made before would keep its proxies, and so on


def read_json(answer: tuple[int, str, str]) -> Any:
    """The JSON object that a command printed, which came to its end."""
    code, stdout, stderr = answer
    assert code == 0, stderr
    return json.loads(stdout)


def measure_briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure times no longer than it takes to have a number: how precise they are is not what is tested."""
    for name, value in {"ROUNDS": 2, "ROUND_CALLS": 5, "SETTLE_SECONDS": 0.0, "MEASURED_SECONDS": 0.001}.items():
        monkeypatch.setattr(timing, name, value)
    monkeypatch.setattr(cost, "TRIAL_SECONDS", 0.0)


@pytest.fixture
def short_measurements(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for a whole test."""
    measure_briefly(monkeypatch)
