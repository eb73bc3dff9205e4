"""Teachers' outputs on disk, so that runs, the workers of a comparison and later commands compute them once.

A file holds the outputs for all images of a split, and is named after a digest of all that decides them. It is a matter
of speed alone: one that is missing, damaged or cannot be written costs time, and nothing else.
"""

import contextlib
import hashlib
import json
import logging
import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from kd_cli.config import KdError
from kd_cli.files import default_cache, write_atomically

log = logging.getLogger(__name__)

LIMIT_BYTES = 5 * 10**9
"""Of all files together; those that were not used for the longest time are removed first."""

ENDING = ".outputs.safetensors"
CHECKSUM_KEY = "crc32"


@dataclass(frozen=True)
class CacheSize:
    """Outputs on disk: where, in how many files, and their bytes in all."""

    folder: str
    files: int
    size_bytes: int


class OutputCache:
    """A folder of outputs.

    Args:
        folder: where; `default_cache` if None.
        identity: what decides all outputs of a job, as JSON-like values.

    Attributes:
        used: the files that were read or written.
    """

    def __init__(self, folder: Path | None, identity: Mapping[str, Any]) -> None:
        self.folder, self.identity = folder or default_cache(), identity
        self.used: list[Path] = []

    def find(self, details: Mapping[str, Any], like: Tensor, count: int) -> Tensor | None:
        """The outputs for ``count`` images that ``details`` name.

        Args:
            details: what decides them beside the identity.
            like: what the first images' outputs are, computed now: a program that has changed since is found out.
            count: how many images.
        """
        path = self._path(details)
        if not path.is_file():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                checksum = (file.metadata() or {})[CHECKSUM_KEY]
                outputs: Tensor = file.get_tensor("outputs")
        except (OSError, SafetensorError, LookupError) as error:
            log.warning("%s cannot be used (%s): the teacher's outputs are computed anew", path, error)
            return None
        if outputs.shape != (count, *like.shape[1:]) or outputs.dtype != like.dtype or _checksum(outputs) != checksum:
            log.warning("%s is damaged: the teacher's outputs are computed anew", path)
            return None
        # Not to the bit: another size of the batch may be another order of additions.
        expected = like.cpu()
        if not (outputs[: len(like)] - expected).norm() <= 1e-2 * expected.norm():
            log.warning("%s is of another version of the teacher: its outputs are computed anew", path)
            return None
        _touch(path)
        self.used.append(path)
        return outputs

    def keep(self, details: Mapping[str, Any], outputs: Tensor) -> None:
        """Write outputs, and remove old ones if there are too many. Where that fails, a notice says so."""
        outputs = outputs.cpu().contiguous()
        if outputs.nbytes > LIMIT_BYTES:
            return
        try:
            content = save({"outputs": outputs}, {CHECKSUM_KEY: _checksum(outputs)})
            write_atomically(self._path(details), content)
            self.used.append(self._path(details))
        except KdError as error:
            log.warning("%s (only a matter of speed: the teacher's outputs are computed anew next time)", error)
        _make_room(self.folder)

    def _path(self, details: Mapping[str, Any]) -> Path:
        identity = json.dumps([self.identity, details], sort_keys=True)
        return self.folder / f"{hashlib.sha256(identity.encode()).hexdigest()[:32]}{ENDING}"


def describe(folder: Path | None = None) -> CacheSize:
    """How much is kept."""
    folder = folder or default_cache()
    files = _list(folder)
    return CacheSize(str(folder), len(files), sum(size for _, size, _ in files))


def clear(folder: Path | None = None) -> CacheSize:
    """Remove all outputs, and no other file; returns what was removed.

    Raises:
        KdError: a file cannot be removed.
    """
    before = describe(folder)
    for _, _, path in _list(Path(before.folder)):
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise KdError(f"cannot remove {path}: {error.strerror or error}; check the folder's permissions") from error
    return before


def _make_room(folder: Path) -> None:
    files = sorted(_list(folder))
    surplus = sum(size for _, size, _ in files) - LIMIT_BYTES
    for _, size, path in files:
        if surplus <= 0:
            return
        try:
            path.unlink(missing_ok=True)
            surplus -= size
        except OSError as error:
            log.warning("cannot remove %s: %s", path, error.strerror or error)


def _list(folder: Path) -> list[tuple[float, int, Path]]:
    """When each file of outputs was used last, its size, and where it is."""
    found = []
    for path in folder.glob(f"*{ENDING}"):
        try:
            about = path.stat()
        except OSError:  # another process removed it
            continue
        found.append((about.st_mtime, about.st_size, path))
    return found


def _touch(path: Path) -> None:
    with contextlib.suppress(OSError):  # a folder that may only be read serves, too
        os.utime(path)


def _checksum(outputs: Tensor) -> str:
    return f"{zlib.crc32(outputs.numpy().data):08x}"
