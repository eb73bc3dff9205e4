"""Files that are either whole or not there at all, and never in the place of something else."""

import os
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kd_cli.config import KdError
from kd_cli.files import require_output, require_regular, require_writable, write_atomically

posix = pytest.mark.skipif(os.name != "posix", reason="links, pipes and devices of Unix")


def everything_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_content_is_written_into_folders_that_are_made_for_it(tmp_path: Path) -> None:
    write_atomically(tmp_path / "new" / "folder" / "file", b"content")
    assert (tmp_path / "new" / "folder" / "file").read_bytes() == b"content"


def test_written_file_takes_the_place_of_an_earlier_one(tmp_path: Path) -> None:
    write_atomically(tmp_path / "file", b"old and longer")
    write_atomically(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new"
    assert everything_in(tmp_path) == ["file"]


def test_file_that_many_write_at_once_is_always_one_of_theirs(tmp_path: Path) -> None:
    path = tmp_path / "file"
    contents = [bytes([number]) * 100_000 for number in range(4)]
    write_atomically(path, contents[0])
    over = threading.Event()

    def write(content: bytes) -> None:
        for _ in range(10):
            write_atomically(path, content)

    def read() -> set[bytes]:
        seen = set()
        while not over.is_set():
            seen.add(path.read_bytes())
        return seen

    with ThreadPoolExecutor(5) as executor:
        reader = executor.submit(read)
        for writer in [executor.submit(write, content) for content in contents]:
            writer.result()
        over.set()
        assert reader.result() <= set(contents)
    assert everything_in(tmp_path) == ["file"]


@posix
def test_link_stays_a_link_and_its_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_bytes(b"old")
    (tmp_path / "link").symlink_to(Path("folder") / "file")
    require_writable(tmp_path / "link")
    write_atomically(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "folder" / "file").read_bytes() == b"new"
    assert everything_in(tmp_path / "folder") == ["file"]


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
    path = tmp_path / ("x" * 300)
    with pytest.raises(KdError, match="choose another place"):
        require_writable(path)
    require_regular(path)  # there is no such file, as whoever opens it will find


def test_asking_whether_a_place_can_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    require_writable(tmp_path / "file")
    assert list(tmp_path.iterdir()) == []


@posix
@pytest.mark.parametrize("kind", ["pipe", "link to a pipe", "device"])
def test_place_of_a_pipe_or_device_is_refused_for_reading_and_writing(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    if kind == "link to a pipe":
        path = tmp_path / "link"
        path.symlink_to("pipe")
    elif kind == "device":
        path = Path(os.devnull)
    for require in (require_writable, require_regular):
        with pytest.raises(KdError, match="not a regular file"):
            require(path)


def test_file_or_nothing_may_be_read(tmp_path: Path) -> None:
    require_regular(tmp_path / "nothing")
    (tmp_path / "file").touch()
    require_regular(tmp_path / "file")


def test_folder_is_refused_for_reading(tmp_path: Path) -> None:
    with pytest.raises(KdError, match="not a regular file"):
        require_regular(tmp_path)


def test_asking_about_an_existing_file_leaves_it_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    require_writable(tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b"old"


def begins_with_kd(path: Path) -> bool:
    return path.read_bytes().startswith(b"kd")


class TestOutput:
    def test_new_file_may_be_written(self, tmp_path: Path) -> None:
        require_output(tmp_path / "file", begins_with_kd)
        assert everything_in(tmp_path) == []

    def test_file_that_this_program_wrote_may_be_replaced(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"kd's own")
        require_output(tmp_path / "file", begins_with_kd)

    def test_file_of_somebody_else_is_replaced_by_force_alone(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"a thesis")
        with pytest.raises(KdError, match="--force"):
            require_output(tmp_path / "file", begins_with_kd)
        require_output(tmp_path / "file", begins_with_kd, force=True)
        assert (tmp_path / "file").read_bytes() == b"a thesis"

    @posix
    @pytest.mark.parametrize("force", [False, True])
    @pytest.mark.parametrize("name", ["input", "folder/../input", "link", "hard link", "INPUT"])
    def test_input_is_never_replaced_by_whatever_path(self, tmp_path: Path, name: str, force: bool) -> None:
        (tmp_path / "folder").mkdir()
        (tmp_path / "input").write_bytes(b"kd's own")
        (tmp_path / "link").symlink_to("input")
        os.link(tmp_path / "input", tmp_path / "hard link")
        if not (tmp_path / "INPUT").exists():  # what a disk that is blind to case has, too: two names of one file
            os.link(tmp_path / "input", tmp_path / "INPUT")
        inputs = [tmp_path / "not there", tmp_path / "input"]
        with pytest.raises(KdError, match="the command reads it"):
            require_output(tmp_path / name, begins_with_kd, inputs, force)

    def test_folder_is_refused_even_by_force(self, tmp_path: Path) -> None:
        with pytest.raises(KdError, match="it is a folder"):
            require_output(tmp_path, begins_with_kd, force=True)
