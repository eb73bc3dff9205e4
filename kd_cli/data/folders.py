"""Folders of images: which classes they have, and which files. Looks at names, sizes and times, and into no file."""

import hashlib
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kd_cli.config import KdError, some_of
from kd_cli.files import identify

SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm")
)
"""Names of files that are read; see `images.FORMATS`."""

TEST_NAMES = ("test", "val", "valid", "validation")

NO_CLASSES = frozenset(("__MACOSX",))
"""Folders that programs leave behind, beside those whose names begin with a dot."""

NO_IMAGES = frozenset(("Thumbs.db", "desktop.ini"))

NAME_ENDING = "-[0-9a-f]{6}"
"""What follows the folder's own name in that of its data set."""

NEEDED = "it needs a folder of images for each class, CLASS/*, or train/CLASS/* and test/CLASS/*"


@dataclass(frozen=True)
class Files:
    """Image files, by their paths, and the numbers of their classes."""

    paths: list[str]
    labels: list[int]

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, rows: list[int]) -> "Files":
        """Those in these rows, in this order."""
        return Files([self.paths[row] for row in rows], [self.labels[row] for row in rows])

    def without(self, paths: frozenset[str]) -> "Files":
        """Those that are none of these, in the same order."""
        return self.take([row for row, path in enumerate(self.paths) if path not in paths])


@dataclass(frozen=True)
class ImageFolder:
    """What a folder of images holds.

    Attributes:
        path: the folder, resolved.
        classes: in alphabetical order, as torchvision's `ImageFolder` has them.
        parts: the files of ``train``, ``test`` and, where there is one, ``validation``; or of ``all``, not divided yet.
        digest: SHA-256 of the files' names, sizes and times: equal digests, equal files.
        others: endings of the files that are none of images, and how many there are of each.
    """

    path: Path
    classes: tuple[str, ...]
    parts: dict[str, Files]
    digest: str
    others: dict[str, int]

    @property
    def undivided(self) -> bool:
        """Whether the folder does not say which images are to test with."""
        return "all" in self.parts

    @property
    def name(self) -> str:
        """What checkpoints and their folders call it: other classes make another name, another place does not."""
        return f"{_plain_name(self.path)}-{hashlib.sha256(os.fsencode('/'.join(self.classes))).hexdigest()[:6]}"


def may_be_called(folder: Path, name: str) -> bool:
    """Whether a data set's name is that of a folder, unless its classes are others. Does not look into the folder."""
    return re.fullmatch(re.escape(_plain_name(folder.resolve())) + NAME_ENDING, name) is not None


def list_folder(folder: Path) -> ImageFolder:
    """Find the classes of a folder and their image files.

    It holds ``train/CLASS/*`` and ``test/CLASS/*`` (or ``val/``; beside ``test/``, ``val/`` is what to validate with),
    or else ``CLASS/*``. Folders inside those of classes belong to them; links are followed, but never in circles.

    Raises:
        KdError: there are no classes, or just one; one is empty, or missing in a part; or something cannot be read.
    """
    path = folder.resolve()
    try:
        return _list_folder(path)
    except OSError as error:
        raise KdError(f"cannot read {error.filename or path}: {error.strerror}; check its permissions") from error


def _plain_name(path: Path) -> str:
    return re.sub(r"[^\w.-]+", "_", path.name).lstrip(".")[:64] or "images"


def _list_folder(path: Path) -> ImageFolder:
    listed = hashlib.sha256()
    others: dict[str, int] = {}
    parts: dict[str, Files] = {}
    places = _find_parts(path)
    classes = _find_classes(path, places)
    for part, place in places.items():
        parts[part] = Files([], [])
        outside = {identify(path), identify(place)}
        for label, name in enumerate(classes):
            files = sorted(_walk(os.path.join(place, name), set(outside), others))
            if not files:
                raise KdError(f"{os.path.join(place, name)} holds no images: add some, or remove the folder")
            for file, size, changed in files:
                parts[part].paths.append(file)
                parts[part].labels.append(label)
                listed.update(os.fsencode(f"{part}{file[len(str(place)) :]}\0{size}\0{changed}\0"))
    return ImageFolder(path, classes, parts, listed.hexdigest(), others)


def _find_parts(path: Path) -> dict[str, Path]:
    there = _subfolders(path)
    tests = [name for name in TEST_NAMES if name in there]
    if "train" not in there or not _subfolders(path / "train"):
        return {"all": path}
    if tests:
        names = {"train": "train", "test": tests[0]}
        if tests[0] == "test" and len(tests) > 1:
            names["validation"] = tests[1]
        return {part: path / name for part, name in names.items()}
    if there == ["train"]:
        raise KdError(
            f"{path} has train/, but neither test/ nor val/: add one, or use {path / 'train'}, "
            "of which --test-fraction is set aside"
        )
    return {"all": path}


def _find_classes(path: Path, places: dict[str, Path]) -> tuple[str, ...]:
    found = {part: _subfolders(place) for part, place in places.items()}
    classes = next(iter(found.values()))
    for part, others in found.items():
        different = sorted(set(classes) ^ set(others))
        if different:
            raise KdError(
                f"{path}: {places['train'].name}/ and {places[part].name}/ have different classes; "
                f"only one of them has {some_of(list(map(repr, different)))}"
            )
    if not classes:
        raise KdError(f"{path} has no classes: {NEEDED}")
    if len(classes) == 1:
        raise KdError(f"{path} has one class, {classes[0]!r}, and nothing to tell it from: {NEEDED}")
    return tuple(classes)


def _subfolders(path: Path) -> list[str]:
    """The names of the folders, or links to folders, that may be classes; a link to the folder itself is none."""
    itself = identify(path)
    with os.scandir(path) as entries:
        return sorted(
            entry.name
            for entry in entries
            if entry.is_dir() and not _is_hidden(entry.name) and identify(entry.path) != itself
        )


def _walk(folder: str, entered: set[tuple[int, int]], others: dict[str, int]) -> Iterator[tuple[str, int, int]]:
    """Path, size and time of change of each image file in a folder that was not entered yet."""
    identity = identify(folder)
    if identity in entered:
        return
    entered.add(identity)
    with os.scandir(folder) as entries:
        for entry in entries:
            if _is_hidden(entry.name):
                continue
            if entry.is_dir():
                yield from _walk(entry.path, entered, others)
                continue
            suffix = os.path.splitext(entry.name)[1].lower()
            if suffix not in SUFFIXES:
                others[suffix or "no ending"] = others.get(suffix or "no ending", 0) + 1
                continue
            try:
                state = entry.stat()
            except OSError:  # a link to nowhere: an image that cannot be read
                yield entry.path, -1, 0
                continue
            if stat.S_ISREG(state.st_mode):  # a pipe might never end
                yield entry.path, state.st_size, state.st_mtime_ns


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name in NO_CLASSES or name in NO_IMAGES
