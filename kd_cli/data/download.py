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
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kd_cli.config import KdError

PATIENCE = 10.0
"""Seconds without a new byte after which a download is given up."""


class NoNetworkError(KdError):
    """The archives are not there, and could not be downloaded."""


def fetch(name: str, archives: Path, scratch: Path, mirrors: list[str] | None = None) -> dict[str, Tensor]:
    """Turn a torchvision data set into tensors, downloading the archives that are missing.

    Args:
        name: torchvision's class: ``MNIST``, ``FashionMNIST`` or ``KMNIST``.
        archives: the folder where the official archives lie, or come to lie once downloaded.
        scratch: an empty folder, private to this call.
        mirrors: addresses to download from in place of torchvision's own.

    Returns:
        Images, uint8 (N, 1, 28, 28), and labels, uint8 (N,), of both splits: see `sources.Tensors`.

    Raises:
        NoNetworkError: an archive is missing, and no mirror delivers it.
        KdError: an archive is damaged and no mirror delivers a sound one; or it cannot be unpacked; names the reason.
    """
    try:
        return _fetch(name, archives, scratch, mirrors)
    except OSError as error:
        raise KdError(
            f"cannot unpack {name} in {scratch.parent}: {error.strerror or error}; "
            "free some space, or choose another --data-dir"
        ) from error


def _fetch(name: str, archives: Path, scratch: Path, mirrors: list[str] | None) -> dict[str, Tensor]:
    from torchvision import datasets
    from torchvision.datasets.utils import check_integrity

    dataset_class = getattr(datasets, name)
    raw = scratch / name / "raw"
    raw.mkdir(parents=True)
    sound: list[str] = []
    damaged: list[str] = []
    for archive, md5 in dataset_class.resources:
        if (archives / archive).exists():
            (sound if check_integrity(archives / archive, md5) else damaged).append(archive)
    for archive in sound:
        shutil.copyfile(archives / archive, raw / archive)
    try:
        with _quiet(), _mirrors(dataset_class, mirrors):
            _within_patience(lambda: dataset_class(scratch, train=True, download=True), scratch)
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
    for archive, _ in dataset_class.resources:
        if archive not in sound:
            with contextlib.suppress(OSError):  # a read-only folder: download again next time
                archives.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(raw / archive, scratch / archive)
                os.replace(scratch / archive, archives / archive)
    tensors = {}
    for split in ("train", "test"):
        whole = dataset_class(scratch, train=split == "train")
        tensors[f"{split}.images"] = whole.data.unsqueeze(1)
        tensors[f"{split}.labels"] = whole.targets.to(torch.uint8)
    return tensors


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
    before = dataset_class.mirrors
    dataset_class.mirrors = mirrors or before
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
