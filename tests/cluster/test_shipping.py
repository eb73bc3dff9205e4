"""Files of other machines: found by their content alone, and whole or not there."""

import os
import time
from pathlib import Path

import pytest

from kd_cli.cluster import shipping
from kd_cli.cluster.shipping import SharedFile, describe, find, list_missing, receive
from kd_cli.config import KdError

CONTENT = bytes(range(256)) * 10


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which this machine keeps what it is brought."""
    monkeypatch.setenv("KD_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A file of the machine that gives the command."""
    path = tmp_path / "images.safetensors"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def brought(source: Path) -> SharedFile:
    """That file, as another machine knows it, where it does not exist."""
    file = describe(source)
    source.unlink()
    return file


def bring(file: SharedFile, content: bytes = CONTENT, size: int = 1000) -> None:
    for start in range(0, len(content), size):
        receive(file, "1", start, content[start : start + size])


def test_a_file_in_the_same_place_is_found_there(source: Path, cache: Path) -> None:
    assert find(describe(source)) == source
    assert not cache.exists()


def test_a_relative_path_is_looked_for_where_the_command_was_given(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(source.parent)
    file = describe(Path(source.name))
    monkeypatch.chdir("/")
    assert find(file) == source


@pytest.mark.parametrize("content", [CONTENT[:-1], CONTENT[:-1] + b"x"])
def test_another_file_in_its_place_is_not_taken_for_it(source: Path, content: bytes) -> None:
    file = describe(source)
    source.write_bytes(content)
    os.utime(source, (0, 0))
    assert find(file) is None


def test_what_was_brought_is_found(brought: SharedFile) -> None:
    assert list_missing((brought,)) == [0]
    bring(brought)
    path = find(brought)
    assert path is not None
    assert path.read_bytes() == CONTENT
    assert path.suffix == ".safetensors"
    assert list_missing((brought,)) == []


def test_an_empty_file_is_brought_too(tmp_path: Path) -> None:
    path = tmp_path / "empty"
    path.touch()
    file = describe(path)
    path.unlink()
    receive(file, "1", 0, b"")
    assert find(file) is not None


def test_teachers_outputs_are_kept_under_their_name(tmp_path: Path, source: Path, cache: Path) -> None:
    file = describe(source, cached=True)
    assert find(file) is None  # although it is there under its path
    bring(file)
    assert find(file) == cache / source.name


def test_a_part_of_a_file_is_not_found(brought: SharedFile) -> None:
    receive(brought, "1", 0, CONTENT[:1000])
    assert find(brought) is None


def test_two_transfers_of_a_file_do_not_harm_each_other(brought: SharedFile) -> None:
    receive(brought, "1", 0, CONTENT[:1000])
    receive(brought, "2", 0, CONTENT)
    receive(brought, "1", 1000, CONTENT[1000:])
    assert list_missing((brought,)) == []


def test_bytes_that_are_not_those_promised_are_refused(brought: SharedFile) -> None:
    with pytest.raises(KdError, match="changed on its way"):
        bring(brought, CONTENT[:-1] + b"x")
    assert find(brought) is None
    assert list(brought.kept.parent.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named(brought: SharedFile, cache: Path) -> None:
    cache.touch()
    with pytest.raises(KdError, match=f"cannot write {cache}"):
        bring(brought)


def test_a_full_disk_is_named(brought: SharedFile, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(KdError, match="No space left on device"):
        bring(brought)
    assert list(brought.kept.parent.iterdir()) == []


def test_what_nobody_uses_is_removed_when_something_else_comes(brought: SharedFile, cache: Path) -> None:
    (cache / "cluster").mkdir(parents=True)
    old, new = cache / "cluster" / "old", cache / "cluster" / "new"
    for path, age in ((old, shipping.KEPT_SECONDS + 60), (new, shipping.KEPT_SECONDS - 60)):
        path.touch()
        os.utime(path, (time.time() - age,) * 2)
    bring(brought)
    assert (old.exists(), new.exists()) == (False, True)


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(KdError, match=r"cannot read .*nothing: No such file"):
        describe(tmp_path / "nothing")
