"""Files that are either whole or not there at all, and never in the place of something else."""

import contextlib
import os
import secrets
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from kd_cli.config import KdError


def write_atomically(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path``, as `open_atomically` does.

    Raises:
        KdError: likewise.
    """
    with open_atomically(path) as file:
        file.write(content)


@contextlib.contextmanager
def open_atomically(path: Path) -> Iterator[BinaryIO]:
    """A file to write so that, whatever happens, ``path`` is the old file or the new one.

    The bytes go to a temporary file in the same folder, reach the disk, and only then take the name. A link stays a
    link: the file that it leads to is replaced.

    Raises:
        KdError: the folder cannot be made or written, or the disk is full; names path and reason.
    """
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            # "x": never follow or reuse a file that somebody else put there.
            with open(temporary, "xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
        _sync_folder(target.parent)
    except OSError as error:
        raise KdError(
            f"cannot write {path}: {error.strerror or error}; choose another place or free some space"
        ) from error


def require_writable(path: Path) -> None:
    """Find out before the work, not after it, that ``path`` cannot be written.

    Raises:
        KdError: as `write_atomically` would, or the path names no file, or a device or pipe.
    """
    if not path.name or os.path.isdir(path):  # unlike Path's, these take a folder that may not be entered for a no
        raise KdError(f"cannot write {path}: it is a folder; add a file name")
    target = Path(os.path.realpath(path))
    if os.path.exists(target) and not os.path.isfile(target):
        raise KdError(f"cannot write {path}: it is not a regular file; choose another place")
    probe = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as error:
        raise KdError(f"cannot write {path}: {error.strerror or error}; choose another place") from error


def require_output(
    path: Path, is_ours: Callable[[Path], bool], inputs: Iterable[Path] = (), force: bool = False
) -> None:
    """Refuse to write where a user's file would be lost.

    Args:
        path: the file to write.
        is_ours: whether this program wrote the file that is there, as the kind of file that it is to write again.
        inputs: files that the command reads; none of them is ever replaced.
        force: replace a file that this program did not write.

    Raises:
        KdError: it cannot be written, is an input by whatever path, or is a file that this program did not write.
    """
    require_writable(path)
    require_no_input([path], inputs)
    if os.path.exists(path) and not force and not is_ours(path):
        raise KdError(f"cannot write {path}: it is a file that kd did not write; choose another place, or use --force")


def require_no_input(outputs: Iterable[Path], inputs: Iterable[Path]) -> None:
    """Refuse to write in the place of a file that the command reads.

    Args:
        outputs: files to write.
        inputs: files that are read; nobody looks for them unless one of the outputs is there already.

    Raises:
        KdError: an output is an input, by whatever path.
    """
    there = {identify(path): path for path in outputs if os.path.exists(path)}
    if not there:
        return
    for path in inputs:
        with contextlib.suppress(OSError):  # what is not there cannot be lost
            if (output := there.get(identify(path))) is not None:
                raise KdError(f"cannot write {output}: the command reads it; choose another place")


def default_cache() -> Path:
    """Where the system wants programs to keep what they can compute again."""
    home = Path.home()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local") / "kd" / "cache"
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "kd"
    return Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache") / "kd"


def identify(path: str | Path) -> tuple[int, int]:
    """Equal for all paths of one file or folder, however they are written.

    Raises:
        OSError: there is none.
    """
    status = os.stat(path)
    return status.st_dev, status.st_ino


def require_regular(path: Path) -> None:
    """Refuse to read what is not a file: a pipe or device might never end.

    Raises:
        KdError: there is something else.
    """
    if os.path.exists(path) and not os.path.isfile(path):
        raise KdError(f"cannot read {path}: it is not a regular file; check the path")


def _sync_folder(folder: Path) -> None:
    """Make the new name itself survive a power cut, where the system lets a folder be opened."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
