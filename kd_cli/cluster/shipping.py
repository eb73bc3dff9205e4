"""Files that tasks need on every machine: found there by their content, else brought there, once.

Only bytes are brought. They are checked on arrival, and again by whoever reads them; nothing of a file is ever run.
Free of torch, as is all that the processes of Dask import.
"""

import contextlib
import hashlib
import os
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from kd_cli.config import KdError
from kd_cli.files import default_cache, require_writable

CHUNK = 2**24
"""Bytes that are brought, and held in memory, at a time."""

KEPT_SECONDS = 30 * 24 * 3600
"""Files that were brought and not used for so long are removed when the next one comes."""


@dataclass(frozen=True)
class SharedFile:
    """A file as another machine can look for it.

    Attributes:
        path: where it is on this machine; it may be in the same place there.
        size: in bytes.
        digest: SHA-256 of its content.
        cached: it is one of the files that `default_cache` holds by name, and is looked for there alone.
    """

    path: Path
    size: int
    digest: str
    cached: bool = False

    @property
    def kept(self) -> Path:
        """Where this machine keeps it, once it was brought."""
        if self.cached:
            return cache_folder() / self.path.name
        return cache_folder() / "cluster" / f"{self.digest[:32]}{self.path.suffix}"


def cache_folder() -> Path:
    """Where this machine keeps what it can have again, as the option --cache-dir has it."""
    named = os.environ.get("KD_CACHE_DIR")
    return Path(named) if named else default_cache()


def describe(path: Path, cached: bool = False) -> SharedFile:
    """A file of this machine.

    Raises:
        KdError: it cannot be read.
    """
    path = path.absolute()
    try:
        return SharedFile(path, path.stat().st_size, _digest_of(path), cached)
    except OSError as error:
        raise KdError(f"cannot read {path}: {error.strerror or error}; the cluster needs it") from error


def find(file: SharedFile) -> Path | None:
    """Where a file is on this machine; None if it has to be brought."""
    for path in [file.kept] if file.cached else [file.path, file.kept]:
        with contextlib.suppress(OSError):
            if path.is_file() and path.stat().st_size == file.size and _digest_of(path) == file.digest:
                os.utime(file.kept) if path == file.kept else None
                return path
    return None


def list_missing(files: tuple[SharedFile, ...]) -> list[int]:
    """The numbers of those that have to be brought."""
    return [number for number, file in enumerate(files) if find(file) is None]


def receive(file: SharedFile, transfer: str, start: int, content: bytes) -> None:
    """Take the next bytes of a file; with the last ones it takes its place, whole.

    Args:
        file: which one.
        transfer: tells this transfer from others of the same file.
        start: where the bytes belong.
        content: some of them.

    Raises:
        KdError: they cannot be written, or are not those that were promised.
    """
    temporary = file.kept.with_name(f".{file.kept.name}.{transfer}.tmp")
    if start == 0:
        require_writable(file.kept)
        _remove_unused(file.kept.parent)
    try:
        with open(temporary, "r+b" if start else "xb") as output:
            output.seek(start)
            output.write(content)
            output.flush()
            if start + len(content) < file.size:
                return
            os.fsync(output.fileno())
        if _digest_of(temporary) != file.digest:
            temporary.unlink()
            raise KdError(f"{file.path} changed on its way: repeat the command")
        os.replace(temporary, file.kept)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise KdError(f"cannot write {file.kept}: {error.strerror or error}; free some space") from error


def _remove_unused(folder: Path) -> None:
    """Remove what nobody needed for long; of outputs, `distillation.output_cache` takes care."""
    if folder.name != "cluster":
        return
    for path in folder.iterdir():
        with contextlib.suppress(OSError):  # another worker may be doing the same
            if time.time() - path.stat().st_mtime > KEPT_SECONDS:
                path.unlink()


def _digest_of(path: Path) -> str:
    about = path.stat()
    return _digest(path, about.st_size, about.st_mtime_ns)


@lru_cache(maxsize=256)
def _digest(path: Path, size: int, changed: int) -> str:
    """Once for each version of a file: some have gigabytes."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
