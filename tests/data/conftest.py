"""A data set in the form of MNIST, small enough to be archived, served, damaged and downloaded in every test."""

import gzip
import hashlib
import http.server
import threading
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.conftest import make_dataset

TEST_IMAGES = "t10k-images-idx3-ubyte.gz"
TEST_LABELS = "t10k-labels-idx1-ubyte.gz"


@dataclass(frozen=True)
class Mirror:
    """A server that delivers what lies in a folder."""

    address: str
    folder: Path


@pytest.fixture
def small_mnist(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Let torchvision's MNIST be the data set ``tiny`` for a test; gives its archives by name."""
    datasets = pytest.importorskip("torchvision.datasets")
    dataset = make_dataset(train=60, test=20)
    archives = {
        "train-images-idx3-ubyte.gz": _idx(dataset.train.images.squeeze(1)),
        "train-labels-idx1-ubyte.gz": _idx(dataset.train.labels),
        TEST_IMAGES: _idx(dataset.test.images.squeeze(1)),
        TEST_LABELS: _idx(dataset.test.labels),
    }
    resources = [(name, hashlib.md5(content).hexdigest()) for name, content in archives.items()]
    monkeypatch.setattr(datasets, "MNIST", type("MNIST", (datasets.MNIST,), {"resources": resources}))
    return archives


@pytest.fixture
def raw(tmp_path: Path, small_mnist: dict[str, bytes]) -> Path:
    """The folder, in the data folder ``tmp_path``, that holds the archives of ``small_mnist``."""
    folder = tmp_path / "MNIST" / "raw"
    _fill(folder, small_mnist)
    return folder


@pytest.fixture
def mirror(tmp_path: Path, small_mnist: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    """A server of the archives of ``small_mnist``, in place of torchvision's own."""
    monkeypatch.setattr(urllib.request, "_opener", None)  # one of an earlier test may go through that test's proxy
    folder = tmp_path / "mirror"
    _fill(folder, small_mnist)
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield Mirror(f"http://127.0.0.1:{server.server_port}/", folder)
        server.shutdown()


def _fill(folder: Path, archives: dict[str, bytes]) -> None:
    folder.mkdir(parents=True)
    for name, content in archives.items():
        (folder / name).write_bytes(content)


def _idx(values: Tensor) -> bytes:
    """An array as MNIST's makers packed theirs: http://yann.lecun.com/exdb/mnist"""
    sizes = b"".join(size.to_bytes(4, "big") for size in values.shape)
    magic = bytes([0, 0, 8, values.ndim])  # 8: unsigned bytes
    return gzip.compress(magic + sizes + values.to(torch.uint8).numpy().tobytes())
