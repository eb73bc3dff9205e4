"""Data sets by name, from archives in the form that torchvision knows, made here: none can be downloaded in a test."""

import bz2
import gzip
import hashlib
import io
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
import torch
from torchvision import datasets

from kd_cli.config import DataConfig
from kd_cli.data.download import NoNetworkError
from kd_cli.data.prepared import load
from kd_cli.data.sources import SOURCES
from tests.data.images import noise

Images = dict[str, Any]
"""Split -> images, uint8 (N, H, W) or (N, H, W, 3)."""

LABELS = {"train": [3, 1, 2, 3, 1, 2], "test": [1, 3, 2]}


def random_images(side: int, channels: int = 1) -> Images:
    return {
        split: np.stack([noise(10 * (split == "test") + row, side, side, channels) for row in range(len(labels))])
        for split, labels in LABELS.items()
    }


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def idx(values: Any, kind: int = 8) -> bytes:
    values = np.asarray(values, np.uint8 if kind == 8 else ">i4")
    sizes = b"".join(size.to_bytes(4, "big") for size in values.shape)
    return gzip.compress(bytes([0, 0, kind, values.ndim]) + sizes + values.tobytes())


def make_cifar(name: str, images: Images) -> tuple[dict[str, bytes], dict[str, Any]]:
    base = datasets.CIFAR10.base_folder if name == "cifar10" else datasets.CIFAR100.base_folder
    kind = "labels" if name == "cifar10" else "fine_labels"
    batches = {
        split: pickle.dumps({"data": each.transpose(0, 3, 1, 2).reshape(len(each), -1), kind: LABELS[split]})
        for split, each in images.items()
    }
    batches["meta"] = pickle.dumps({"names": list(SOURCES[name].classes)})
    memory = io.BytesIO()
    with tarfile.open(fileobj=memory, mode="w:gz") as tar:
        for batch, content in batches.items():
            about = tarfile.TarInfo(f"{base}/{batch}")
            about.size = len(content)
            tar.addfile(about, io.BytesIO(content))
    archive = memory.getvalue()
    attributes = {
        "filename": "cifar.tar.gz",
        "tgz_md5": md5(archive),
        "train_list": [["train", md5(batches["train"])]],
        "test_list": [["test", md5(batches["test"])]],
        "meta": {"filename": "meta", "key": "names", "md5": md5(batches["meta"])},
    }
    return {"cifar.tar.gz": archive}, attributes


def make_svhn(name: str, images: Images) -> tuple[dict[str, bytes], dict[str, Any]]:
    files = {}
    for split, each in images.items():
        memory = io.BytesIO()
        scipy.io.savemat(memory, {"X": each.transpose(1, 2, 3, 0), "y": np.array(LABELS[split])[:, None]})
        files[f"{split}.mat"] = memory.getvalue()
    return files, {"split_list": {name[:-4]: ["", name, md5(content)] for name, content in files.items()}}


def make_usps(name: str, images: Images) -> tuple[dict[str, bytes], dict[str, Any]]:
    files = {}
    for split, each in images.items():
        rows = [
            f"{label + 1} " + " ".join(f"{place + 1}:{value / 255 * 2 - 1:.6f}" for place, value in enumerate(image))
            for label, image in zip(LABELS[split], each.reshape(len(each), -1).tolist(), strict=True)
        ]
        files[f"{split}.bz2"] = bz2.compress("\n".join(rows).encode())
    return files, {"split_list": {name[:-4]: ["", name, md5(content)] for name, content in files.items()}}


def make_qmnist(name: str, images: Images) -> tuple[dict[str, bytes], dict[str, Any]]:
    files = {}
    for split, each in images.items():
        files[f"{split}-images.gz"] = idx(each)
        files[f"{split}-labels.gz"] = idx([[label, 0, 0, 9, 9, 9, 0, 0] for label in LABELS[split]], kind=12)
    entries = {
        split: [(f"http://127.0.0.1/{name}", md5(files[name])) for name in files if name.startswith(split)]
        for split in images
    }
    return files, {"resources": entries}


def make_emnist(name: str, images: Images) -> tuple[dict[str, bytes], dict[str, Any]]:
    memory, part = io.BytesIO(), name.split("-")[1]
    with zipfile.ZipFile(memory, "w") as archive:
        for split, each in images.items():
            labels = np.array(LABELS[split]) + (part == "letters")
            archive.writestr(f"gzip/emnist-{part}-{split}-images-idx3-ubyte.gz", idx(each.transpose(0, 2, 1)))
            archive.writestr(f"gzip/emnist-{part}-{split}-labels-idx1-ubyte.gz", idx(labels))
    return {"gzip.zip": memory.getvalue()}, {"md5": md5(memory.getvalue())}


MAKERS: dict[str, tuple[str, Callable[[str, Images], tuple[dict[str, bytes], dict[str, Any]]]]] = {
    "cifar10": ("CIFAR10", make_cifar),
    "cifar100": ("CIFAR100", make_cifar),
    "svhn": ("SVHN", make_svhn),
    "usps": ("USPS", make_usps),
    "qmnist": ("QMNIST", make_qmnist),
    "emnist-digits": ("EMNIST", make_emnist),
    "emnist-letters": ("EMNIST", make_emnist),
    "emnist-balanced": ("EMNIST", make_emnist),
}


@pytest.fixture
def images(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> Images:
    """The images of small archives in the data folder ``tmp_path``, which torchvision takes for the data set's own."""
    channels, side, _ = SOURCES[name].shape
    made = random_images(side, channels)
    class_name, make = MAKERS[name]
    archives, attributes = make(name, made)
    original = getattr(datasets, class_name)
    monkeypatch.setattr(datasets, class_name, type(class_name, (original,), attributes))
    folder = tmp_path / (SOURCES[name].archives or f"{SOURCES[name].folder}/raw")
    folder.mkdir(parents=True)
    for file, content in archives.items():
        (folder / file).write_bytes(content)
    return made


@pytest.mark.parametrize("name", MAKERS)
def test_archives_become_upright_images_with_their_labels(
    tmp_path: Path, name: str, images: Images, no_network: None
) -> None:
    dataset = load(DataConfig(name, tmp_path))
    assert dataset.info.shape == SOURCES[name].shape
    for split, each in (("train", dataset.train), ("test", dataset.test)):
        expected = torch.from_numpy(images[split])
        expected = expected.permute(0, 3, 1, 2) if expected.ndim == 4 else expected.unsqueeze(1)
        # USPS is stored as fractions, which torchvision cuts off.
        assert (each.images.int() - expected.int()).abs().max() <= (name == "usps")
        assert each.labels.tolist() == LABELS[split]


@pytest.mark.parametrize("name", MAKERS)
def test_cut_off_archive_leaves_no_prepared_copy(tmp_path: Path, name: str, images: Images, no_network: None) -> None:
    for archive in (tmp_path / (SOURCES[name].archives or f"{SOURCES[name].folder}/raw")).iterdir():
        archive.unlink()
    with pytest.raises(NoNetworkError, match="could not be downloaded"):
        load(DataConfig(name, tmp_path))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("name", ["emnist-letters"])
def test_parts_of_emnist_share_their_archive(tmp_path: Path, name: str, images: Images, no_network: None) -> None:
    load(DataConfig(name, tmp_path))
    files = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert files == ["EMNIST/letters/prepared.safetensors", "EMNIST/raw/gzip.zip"]
