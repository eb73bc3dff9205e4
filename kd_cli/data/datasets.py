"""Data sets as tensors in memory, prepared once and then loaded in milliseconds."""

import logging
import tempfile
import zlib
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor
from torch.nn import functional as F

from kd_cli import download
from kd_cli.files import write_atomically
from kd_cli.settings import DatasetName, KdError

log = logging.getLogger(__name__)

IMAGE_SIZE = 28
"""Height and width, in pixels, of the pictures of every data set here."""

PREPARED_FORMAT = "1"

DIGITS = tuple("0123456789")
CLASSES = {
    DatasetName.mnist: DIGITS,
    DatasetName.fashion_mnist: (
        *("T-shirt/top", "trouser", "pullover", "dress", "coat"),
        *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
    ),
    DatasetName.kmnist: ("お", "き", "す", "つ", "な", "は", "ま", "や", "れ", "を"),
    DatasetName.digits: DIGITS,
}
TORCHVISION_CLASS = {
    DatasetName.mnist: "MNIST",
    DatasetName.fashion_mnist: "FashionMNIST",
    DatasetName.kmnist: "KMNIST",
}


@dataclass(frozen=True)
class Normalisation:
    """Mean and standard deviation of the training pixels, on a scale where white is 1."""

    mean: float
    std: float

    def __call__(self, images: Tensor) -> Tensor:
        """uint8 (N, 28, 28) -> float (N, 1, 28, 28) of about zero mean and unit variance."""
        return images.unsqueeze(1).float().mul_(1 / (255 * self.std)).sub_(self.mean / self.std)


MNIST_NORMALISATION = Normalisation(0.1307, 0.3081)
"""What everybody normalises MNIST with, and what its training pictures give to four digits."""


@dataclass(frozen=True)
class Split:
    """Pictures, uint8 (N, 28, 28), and their labels, int64 (N,)."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> "Split":
        """This split on another device."""
        return Split(self.images.to(device), self.labels.to(device))


@dataclass(frozen=True)
class Dataset:
    """A data set; ``train`` is empty where only the test pictures were asked for."""

    name: DatasetName
    classes: tuple[str, ...]
    normalisation: Normalisation
    train: Split
    test: Split

    def to(self, device: torch.device) -> "Dataset":
        """This data set on another device."""
        return replace(self, train=self.train.to(device), test=self.test.to(device))


def load(name: DatasetName, data_dir: Path, train: bool = True) -> Dataset:
    """Load a data set, preparing or downloading it where needed; ``auto`` falls back from MNIST to the bundled digits.

    Raises:
        KdError: the data set is not there and cannot be had, or an archive of it is damaged.
    """
    if name is not DatasetName.auto:
        return _load(name, data_dir, train)
    try:
        return _load(DatasetName.mnist, data_dir, train)
    except download.NoNetworkError as error:
        log.warning("%s", error)
        log.warning(
            "USING THE BUNDLED DIGITS INSTEAD OF MNIST: 1,797 pictures of 8x8 pixels. "
            "These numbers are not comparable with MNIST's."
        )
        return _load(DatasetName.digits, data_dir, train)


def _load(name: DatasetName, data_dir: Path, train: bool) -> Dataset:
    folder = data_dir / TORCHVISION_CLASS.get(name, name.value)
    prepared = folder / "prepared.safetensors"
    dataset = _read_prepared(name, prepared, train)
    if dataset is not None:
        return dataset
    with _staging(folder) as staging:
        content = _prepare(name, folder / "raw", Path(staging))
    try:
        write_atomically(prepared, content)
    except KdError as error:
        log.warning("%s (only a matter of speed: %s is prepared anew next time)", error, name.value)
        with tempfile.NamedTemporaryFile(suffix=".safetensors") as file:
            file.write(content)
            file.flush()
            dataset = _read_prepared(name, Path(file.name), train)
    else:
        dataset = _read_prepared(name, prepared, train)
    if dataset is None:
        raise KdError(f"{prepared} changed while it was read: try again")
    return dataset


def _staging(folder: Path) -> "tempfile.TemporaryDirectory[str]":
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryDirectory(prefix=".staging-", suffix=".tmp", dir=folder)
    except OSError:  # a read-only folder still serves its archives
        return tempfile.TemporaryDirectory(prefix="kd-")


def _prepare(name: DatasetName, archives: Path, staging: Path) -> bytes:
    """The content of a prepared file: four tensors, the normalisation, and a checksum of each tensor."""
    if name is DatasetName.digits:
        tensors = _uci_digits()
    else:
        log.info("preparing %s, once; archives that are not in %s are downloaded", name.value, archives)
        tensors = load_file(download.prepare(TORCHVISION_CLASS[name], archives, staging))
    std, mean = torch.std_mean(tensors["train.images"].float() / 255)
    metadata = {"format": PREPARED_FORMAT, "dataset": name.value}
    metadata |= {"mean": f"{mean:.4f}", "std": f"{std:.4f}"}
    metadata |= {key: _checksum(tensor) for key, tensor in tensors.items()}
    return save(tensors, metadata)


def _read_prepared(name: DatasetName, path: Path, train: bool) -> Dataset | None:
    """The data set in a prepared file, or None where the file is missing, stale, foreign or damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != PREPARED_FORMAT or metadata.get("dataset") != name.value:
                return None
            test = _read_split(file, "test", metadata)
            nothing = Split(test.images[:0], test.labels[:0])
            return Dataset(
                name=name,
                classes=CLASSES[name],
                normalisation=Normalisation(float(metadata["mean"]), float(metadata["std"])),
                train=_read_split(file, "train", metadata) if train else nothing,
                test=test,
            )
    except (OSError, SafetensorError, KeyError, ValueError):
        return None


def _read_split(file: safe_open, split: str, metadata: dict[str, str]) -> Split:
    tensors = {}
    for kind in ("images", "labels"):
        key = f"{split}.{kind}"
        tensors[kind] = file.get_tensor(key)
        if _checksum(tensors[kind]) != metadata[key]:
            raise ValueError(f"{key} does not match its checksum")
    return Split(tensors["images"], tensors["labels"].long())


def _checksum(tensor: Tensor) -> str:
    return f"{zlib.crc32(tensor.contiguous().numpy().data):08x}"


def _uci_digits() -> dict[str, Tensor]:
    """scikit-learn's 1,797 UCI digits, scaled from 8x8 into the middle 20x20 of 28x28 as MNIST's digits are.

    A fixed, stratified split: 1,297 pictures to train on, 500 to test on.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    pixels = torch.from_numpy(images).float().view(-1, 1, 8, 8) / 16
    scaled = F.interpolate(pixels, size=(20, 20), mode="bicubic").clamp(0, 1)
    pictures = F.pad(scaled, [4] * 4).squeeze(1).mul(255).round().to(torch.uint8)
    train, test = train_test_split(range(len(labels)), test_size=500, stratify=labels, random_state=0)
    targets = torch.from_numpy(labels).to(torch.uint8)
    return {
        "train.images": pictures[train],
        "train.labels": targets[train],
        "test.images": pictures[test],
        "test.labels": targets[test],
    }
