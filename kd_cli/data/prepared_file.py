"""Prepared files: a data set's tensors as safetensors, written in pieces and mapped, so that any size will do."""

import errno
import hashlib
import json
import mmap
import os
import shutil
import zlib
from collections.abc import Iterable, Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kd_cli.data.dataset import DataInfo, Dataset, Split
from kd_cli.data.moments import Moments
from kd_cli.files import open_atomically, require_regular

FORMAT = "3"

ALWAYS_CHECKED = 2**28
"""Bytes up to which a file's images are compared with their checksums whenever they are loaded.

Larger files would take seconds. Of them, labels and size are checked, and that they are of this data set: a file is
written whole or not at all, and its images are those that were decoded, so what remains is a disk that forgets.
"""

SPARE = 1024
"""Bytes kept in the header for what is only known at the end."""

TYPES: dict[str, np.dtype[Any]] = {"U8": np.dtype(np.uint8), "I64": np.dtype(np.int64)}

TRAINING_IMAGES = "train.images"

Layout = Mapping[str, tuple[str, tuple[int, ...]]]
"""Names of tensors -> their types, as safetensors calls them, and shapes."""


class NotPreparedError(Exception):
    """A prepared file is missing, stale, foreign or damaged."""


def write(path: Path, metadata: dict[str, str], layout: Layout, pieces: Iterable[tuple[str, NDArray[Any]]]) -> None:
    """Write a prepared file, atomically.

    Args:
        path: the file.
        metadata: ``key``, which says what the content was made of; ``name`` and ``classes`` (in JSON); and more.
        layout: ``test.images``, ``test.labels``, ``train.images`` and ``train.labels``.
        pieces: names of tensors and their next rows. Names come in alphabetical order.

    Raises:
        KdError: it cannot be written, or the disk is full.
        Exception: whatever ``pieces`` raises; nothing is left behind.
    """
    names, place = sorted(layout), 0
    header: dict[str, Any] = {}
    for name in names:
        kind, shape = layout[name]
        size = TYPES[kind].itemsize * prod(shape)
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [place, place + size]}
        place += size
    known = {"format": FORMAT} | metadata
    start = -(-(8 + len(json.dumps(header | {"__metadata__": known})) + SPARE) // 64) * 64
    digest, checksums, moments = hashlib.sha256(), dict.fromkeys(names, 0), Moments()
    with open_atomically(path) as file:
        if shutil.disk_usage(path.parent).free < start + place:  # better before the work than after it
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        file.seek(start)
        for name, piece in pieces:
            content = np.ascontiguousarray(piece)
            file.write(content.data)
            digest.update(content.data)
            checksums[name] = zlib.crc32(content.data, checksums[name])
            if name == TRAINING_IMAGES:
                moments.add(torch.from_numpy(content))
        known |= {"digest": digest.hexdigest()} | {
            key: ",".join(f"{value:.4f}" for value in each) for key, each in moments.describe().items()
        }
        known |= {f"crc32 {name}": f"{checksum:08x}" for name, checksum in checksums.items()}
        text = json.dumps(header | {"__metadata__": known}).encode().ljust(start - 8)
        file.seek(0)
        file.write(len(text).to_bytes(8, "little") + text)


def read_metadata(path: Path) -> dict[str, str]:
    """What a prepared file says of itself.

    Raises:
        NotPreparedError: it is none.
        KdError: it is a pipe or a device.
    """
    require_regular(path)
    try:
        with open(path, "rb") as file:
            return _read_header(file.read(8), file)[1]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise NotPreparedError from error


def read(path: Path, key: str, train: bool = True) -> Dataset:
    """Map a prepared file: its pages are read when they are used, and given back when memory is short.

    Args:
        path: the file.
        key: what its content should have been made of.
        train: whether to hand over the training images, too.

    Raises:
        NotPreparedError: it is missing, stale, foreign or damaged.
        KdError: it is a pipe or a device.
    """
    require_regular(path)
    try:
        with open(path, "rb") as file:
            header, metadata, start = _read_header(file.read(8), file)
            if metadata.get("format") != FORMAT or metadata.get("key") != key:
                raise NotPreparedError
            if os.fstat(file.fileno()).st_size != start + max(entry["data_offsets"][1] for entry in header.values()):
                raise NotPreparedError
            memory = _map(file.fileno())
        checked = len(memory) <= ALWAYS_CHECKED

        def take(split: str) -> Split:
            images = _array(memory, start, f"{split}.images", header, metadata if checked else {})
            labels = _array(memory, start, f"{split}.labels", header, metadata)
            return Split(torch.from_numpy(images), torch.from_numpy(labels.astype(np.int64)))

        test = take("test")
        info = DataInfo(
            name=metadata["name"],
            classes=tuple(json.loads(metadata["classes"])),
            shape=tuple(test.images.shape[1:]),  # type: ignore[arg-type]
            mean=_numbers(metadata["mean"]),
            std=_numbers(metadata["std"]),
            digest=metadata["digest"],
        )
        return Dataset(info, take("train") if train else Split(test.images[:0], test.labels[:0]), test, file=path)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise NotPreparedError from error


def _read_header(length: bytes, file: Any) -> tuple[dict[str, Any], dict[str, str], int]:
    """Where each tensor is, what the file says of itself, and where the tensors begin."""
    size = int.from_bytes(length, "little")
    if len(length) != 8 or size > 2**26:
        raise NotPreparedError
    header = json.loads(file.read(size))
    return header, header.pop("__metadata__"), 8 + size


def _map(descriptor: int) -> mmap.mmap:
    """A file as memory that may be written without changing the file."""
    if os.name != "posix":
        return mmap.mmap(descriptor, 0, access=mmap.ACCESS_COPY)
    # Without a reservation: a file may be larger than the memory, of which hardly a page is ever written.
    no_reserve = getattr(mmap, "MAP_NORESERVE", 0x4000 if os.uname().sysname == "Linux" else 0)
    return mmap.mmap(descriptor, 0, mmap.MAP_PRIVATE | no_reserve, mmap.PROT_READ | mmap.PROT_WRITE)


def _array(memory: mmap.mmap, start: int, name: str, header: dict[str, Any], checksums: dict[str, str]) -> NDArray[Any]:
    entry = header[name]
    kind, shape, place = TYPES[entry["dtype"]], entry["shape"], start + entry["data_offsets"][0]
    array: NDArray[Any] = np.frombuffer(memory, kind, prod(shape), place).reshape(shape)
    if checksums and f"{zlib.crc32(array.data):08x}" != checksums[f"crc32 {name}"]:
        raise NotPreparedError
    return array


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(float(part) for part in text.split(","))
