"""Files that are either whole or not there at all."""

import os
import secrets
from pathlib import Path

from kd_cli.config import KdError


def write_atomically(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` so that, whatever happens, ``path`` is the old file or the new one.

    The bytes go to a temporary file in the same folder, reach the disk, and only then take the name.

    Raises:
        KdError: the folder cannot be made or written, or the disk is full; names path and reason.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            # "x": never follow or reuse a file that somebody else put there.
            with open(temporary, "xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        _sync_folder(path.parent)
    except OSError as error:
        raise KdError(
            f"cannot write {path}: {error.strerror or error}; choose another place or free some space"
        ) from error


def require_writable(path: Path) -> None:
    """Find out before the work, not after it, that ``path`` cannot be written.

    Raises:
        KdError: as `write_atomically` would, or the path names no file.
    """
    if not path.name or path.is_dir():
        raise KdError(f"cannot write {path}: it is a folder; add a file name")
    probe = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as error:
        raise KdError(f"cannot write {path}: {error.strerror or error}; choose another place") from error


def _sync_folder(folder: Path) -> None:
    """Make the new name itself survive a power cut, where the system lets a folder be opened."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
