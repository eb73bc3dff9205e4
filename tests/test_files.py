"""Files that are either whole or not there at all."""

import os
import stat
from pathlib import Path

import pytest

from kd_cli.config import KdError
from kd_cli.files import require_writable, write_atomically


def test_content_is_written_into_folders_that_are_made_for_it(tmp_path: Path) -> None:
    write_atomically(tmp_path / "new" / "folder" / "file", b"content")
    assert (tmp_path / "new" / "folder" / "file").read_bytes() == b"content"


def test_written_file_takes_the_place_of_an_earlier_one(tmp_path: Path) -> None:
    write_atomically(tmp_path / "file", b"old and longer")
    write_atomically(tmp_path / "file", b"new")
    assert [(each.name, each.read_bytes()) for each in tmp_path.iterdir()] == [("file", b"new")]


def test_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def full_disk(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(KdError, match=rf"{path}.*No space left") as caught:
        write_atomically(path, b"new")
    assert isinstance(caught.value.__cause__, OSError)
    assert [(each.name, each.read_bytes()) for each in tmp_path.iterdir()] == [("file", b"old")]


@pytest.mark.skipif(os.name != "posix", reason="Windows has no umask")
def test_written_file_has_the_permissions_that_any_new_file_has(tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    write_atomically(tmp_path / "ours", b"")
    assert stat.S_IMODE((tmp_path / "ours").stat().st_mode) == stat.S_IMODE((tmp_path / "usual").stat().st_mode)


@pytest.mark.parametrize("name", ["", ".", "..", "/", "folder", "folder/", "folder/..", "new/.", "file/student"])
def test_name_that_cannot_be_a_file_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("file").write_bytes(b"old")
    Path("new").mkdir()
    with pytest.raises(KdError, match="cannot write") as caught:
        require_writable(Path(name))
    assert "\n" not in str(caught.value)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "folder", "new"]


def test_name_that_is_too_long_for_the_disk_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(KdError, match="choose another place"):
        require_writable(tmp_path / ("x" * 300))


def test_asking_whether_a_place_can_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    require_writable(tmp_path / "file")
    assert list(tmp_path.iterdir()) == []


def test_asking_about_an_existing_file_leaves_it_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    require_writable(tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b"old"
