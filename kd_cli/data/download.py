"""Official archives -> tensors, through torchvision.

It works in a scratch folder, so that a download or an unpacking that is cut off leaves nothing that a later run could
take for complete.
"""

import contextlib
import errno
import os
import shutil
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kd_cli.config import KdError
from kd_cli.files import require_regular

PATIENCE = 10.0
"""Seconds without a new byte after which a download is given up."""


class NoNetworkError(KdError):
    """The archives are not there, and could not be downloaded."""


@dataclass(frozen=True)
class Family:
    """How the classes of torchvision's that resemble each other are used.

    Attributes:
        place: (name of the class) -> where in its folder archives lie.
        archives: (class) -> their names and md5 sums.
        open: (class, its folder, which split, whether to download) -> the data set.
        images: (data set) -> uint8 (N, H, W), (N, H, W, 3) or (N, 3, H, W).
        labels: (data set) -> from 0, (N,).
    """

    place: Callable[[str], str]
    archives: Callable[[Any], list[tuple[str, str]]]
    open: Callable[[Any, Path, str, bool], Any]
    images: Callable[[Any], Any] = lambda opened: opened.data
    labels: Callable[[Any], Any] = lambda opened: opened.targets


def _open_by_train(dataset_class: Any, folder: Path, split: str, download: bool) -> Any:
    return dataset_class(folder, train=split == "train", download=download)


def _open_by_split(dataset_class: Any, folder: Path, split: str, download: bool) -> Any:
    return dataset_class(folder, split=split, download=download)


MNIST = Family(lambda name: f"{name}/raw", lambda each: list(each.resources), _open_by_train)

CIFAR = Family(lambda name: "", lambda each: [(each.filename, each.tgz_md5)], _open_by_train)

USPS = replace(CIFAR, archives=lambda each: [tuple(each.split_list[split][1:]) for split in ("train", "test")])

FAMILIES = {
    "QMNIST": replace(
        MNIST,
        archives=lambda each: [
            (url.rsplit("/", 1)[-1], md5) for split in ("train", "test") for url, md5 in each.resources[split]
        ],
        labels=lambda opened: opened.targets[:, 0],  # the others say who wrote it, and where in NIST's set it is
    ),
    "CIFAR10": CIFAR,
    "CIFAR100": CIFAR,
    "USPS": USPS,
    "SVHN": replace(USPS, open=_open_by_split, labels=lambda opened: opened.labels),
}
"""Those that are not like MNIST, by torchvision's classes."""


def _part_of_emnist(part: str) -> Family:
    """Its images lie on their side, and its letters are counted from 1."""
    return Family(
        place=lambda name: f"{name}/raw",
        archives=lambda each: [(each.url.rsplit("/", 1)[-1], each.md5)],
        open=lambda each, folder, split, download: each(folder, part, train=split == "train", download=download),
        images=lambda opened: opened.data.transpose(1, 2),
        labels=lambda opened: opened.targets - int(part == "letters"),
    )


def fetch(
    name: str, archives: Path, scratch: Path, mirrors: list[str] | None = None, part: str = ""
) -> dict[str, Tensor]:
    """Turn a torchvision data set into tensors, downloading the archives that are missing.

    Args:
        name: torchvision's class.
        archives: the folder where the official archives lie, or come to lie once downloaded.
        scratch: an empty folder, private to this call.
        mirrors: addresses to download from in place of torchvision's own, where it has several.
        part: which part of EMNIST.

    Returns:
        Images, uint8 (N, C, H, W), and labels, uint8 (N,), of both splits: see `sources.Tensors`.

    Raises:
        NoNetworkError: an archive is missing, and no mirror delivers it.
        KdError: an archive is a pipe or a device; or it is damaged and no mirror delivers a sound one; or it cannot be
            unpacked; names the reason.
    """
    try:
        family = _part_of_emnist(part) if part else FAMILIES.get(name, MNIST)
        return _fetch(name, archives, scratch, mirrors, family)
    except OSError as error:
        raise KdError(
            f"cannot unpack {name} in {scratch.parent}: {error.strerror or error}; "
            "free some space, or choose another --data-dir"
        ) from error


def _fetch(name: str, archives: Path, scratch: Path, mirrors: list[str] | None, family: Family) -> dict[str, Tensor]:
    from torchvision import datasets
    from torchvision.datasets.utils import check_integrity

    dataset_class = getattr(datasets, name)
    raw = scratch / family.place(name)
    raw.mkdir(parents=True, exist_ok=True)
    opened: dict[str, Any] = {}

    def download() -> None:
        for split in ("train", "test"):
            opened[split] = family.open(dataset_class, scratch, split, True)

    sound: list[str] = []
    damaged: list[str] = []
    expected = list(family.archives(dataset_class))
    for archive, md5 in expected:
        require_regular(archives / archive)
        if (archives / archive).exists():
            (sound if check_integrity(archives / archive, md5) else damaged).append(archive)
    for archive in sound:
        shutil.copyfile(archives / archive, raw / archive)
    try:
        with _quiet(), _mirrors(dataset_class, mirrors):
            if len(sound) == len(expected):
                download()  # which only unpacks: a slow machine may take its time
            else:
                _within_patience(download, scratch)
    except Exception as error:  # torchvision raises what the network, the archive or the disk makes it raise
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise  # a network would not help
        if damaged:
            raise KdError(
                f"{archives / damaged[0]} is damaged (wrong md5) and a sound copy could not be downloaded: "
                "delete it and try again with a network, or use --dataset digits"
            ) from error
        # torchvision lists every mirror that it tried; the last reason says enough.
        reason = " ".join(str(error).split("got:")[-1].split()).strip("<>") or type(error).__name__
        raise NoNetworkError(
            f"{name} is not in {archives} and could not be downloaded ({reason}): "
            "try again with a network, or use --dataset digits"
        ) from error
    for archive, _ in expected:
        if archive not in sound:
            with contextlib.suppress(OSError):  # a read-only folder: download again next time
                archives.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(raw / archive, scratch / f"{archive}.copy")
                os.replace(scratch / f"{archive}.copy", archives / archive)
    tensors = {}
    for split, whole in opened.items():
        tensors[f"{split}.images"] = _channels_first(torch.as_tensor(family.images(whole)))
        tensors[f"{split}.labels"] = torch.as_tensor(family.labels(whole)).to(torch.uint8)
    return tensors


def _channels_first(images: Tensor) -> Tensor:
    if images.ndim == 3:
        return images.unsqueeze(1)
    return images.permute(0, 3, 1, 2) if images.shape[3] == 3 else images


def _within_patience(download: Any, scratch: Path) -> None:
    """Carry out a download, unless no byte comes for `PATIENCE` seconds.

    A socket's own time limit does not cover the look-up of a name, so the download has a thread of its own, which is
    left behind where it hangs.

    Raises:
        TimeoutError: nothing came.
        Exception: whatever the download raises.
    """
    errors: list[BaseException | None] = []

    def work() -> None:
        try:
            download()
            errors.append(None)
        except BaseException as error:
            errors.append(error)

    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(PATIENCE / 3)  # so that a second mirror gets its chance within the patience
    try:
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        seen, last_change = -1, time.monotonic()
        while thread.is_alive():
            thread.join(0.05)
            size = _size(scratch)
            if size != seen:
                seen, last_change = size, time.monotonic()
            elif time.monotonic() - last_change > PATIENCE:
                raise TimeoutError(f"no answer for {PATIENCE:.0f} seconds")
    finally:
        socket.setdefaulttimeout(before)
    if errors[0] is not None:
        raise errors[0]


def _size(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):  # it may just have been renamed
            total += path.stat().st_size
    return total


@contextlib.contextmanager
def _mirrors(dataset_class: Any, mirrors: list[str] | None) -> Iterator[None]:
    if mirrors is None:
        yield
        return
    before = dataset_class.mirrors
    dataset_class.mirrors = mirrors
    try:
        yield
    finally:
        dataset_class.mirrors = before


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """torchvision prints to stdout, which is for results; its progress bars are for terminals."""
    with open(os.devnull, "w") as nowhere:
        if sys.stderr.isatty():
            with contextlib.redirect_stdout(sys.stderr):
                yield
        else:
            with contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
                yield
