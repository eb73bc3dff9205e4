"""Archives, from the folder where they lie or from a server, and networks that fail in every way."""

import gzip
import socket
import threading
from pathlib import Path

import pytest
import torch

from kd_cli.config import KdError
from kd_cli.data import download
from kd_cli.data.download import NoNetworkError, fetch
from tests.conftest import make_dataset
from tests.data.conftest import TEST_IMAGES, TEST_LABELS, Mirror


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_archives_become_the_tensors_that_were_packed(raw: Path, scratch: Path, no_network: None) -> None:
    tensors = fetch("MNIST", raw, scratch)
    expected = make_dataset(train=60, test=20)
    for name, split in (("train", expected.train), ("test", expected.test)):
        assert torch.equal(tensors[f"{name}.images"], split.images)
        assert torch.equal(tensors[f"{name}.labels"], split.labels.to(torch.uint8))


def test_archives_that_are_there_may_take_a_slow_machine_any_time(
    raw: Path, scratch: Path, no_network: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "PATIENCE", -1)
    assert len(fetch("MNIST", raw, scratch)["test.images"]) == 20


def test_missing_archives_are_downloaded_and_kept(
    tmp_path: Path, scratch: Path, small_mnist: dict[str, bytes], mirror: Mirror
) -> None:
    fetch("MNIST", tmp_path / "raw", scratch, mirrors=[mirror.address])
    assert content(tmp_path / "raw") == small_mnist


def test_only_what_is_missing_is_downloaded(raw: Path, scratch: Path, mirror: Mirror) -> None:
    (raw / TEST_IMAGES).unlink()
    for path in mirror.folder.iterdir():
        if path.name != TEST_IMAGES:
            path.unlink()
    assert len(fetch("MNIST", raw, scratch, mirrors=[mirror.address])["test.images"]) == 20


def test_damaged_archive_is_replaced_by_a_sound_download(
    raw: Path, scratch: Path, small_mnist: dict[str, bytes], mirror: Mirror
) -> None:
    (raw / TEST_IMAGES).write_bytes(b"damaged")
    fetch("MNIST", raw, scratch, mirrors=[mirror.address])
    assert content(raw) == small_mnist


@pytest.mark.parametrize("damage", ["truncated", "corrupt", "swapped", "replaced"])
def test_damaged_archive_is_named_where_no_sound_copy_can_be_had(
    raw: Path, scratch: Path, small_mnist: dict[str, bytes], no_network: None, damage: str
) -> None:
    archive = small_mnist[TEST_IMAGES]
    damaged = {
        "truncated": archive[:1000],
        "corrupt": archive[:-100] + bytes(100),
        "swapped": small_mnist[TEST_LABELS],
        "replaced": gzip.compress(b"not MNIST"),
    }
    (raw / TEST_IMAGES).write_bytes(damaged[damage])
    with pytest.raises(KdError, match=TEST_IMAGES) as caught:
        fetch("MNIST", raw, scratch)
    assert not isinstance(caught.value, NoNetworkError)  # `auto` must not hide it behind the bundled digits


@pytest.mark.parametrize("cut", [0, 1000, -1])
def test_download_that_is_cut_off_leaves_no_archive(tmp_path: Path, scratch: Path, mirror: Mirror, cut: int) -> None:
    (mirror.folder / TEST_IMAGES).write_bytes((mirror.folder / TEST_IMAGES).read_bytes()[:cut])
    with pytest.raises(NoNetworkError):
        fetch("MNIST", tmp_path / "raw", scratch, mirrors=[mirror.address])
    assert not (tmp_path / "raw").exists()


def test_second_mirror_helps_where_the_first_has_nothing(tmp_path: Path, scratch: Path, mirror: Mirror) -> None:
    mirrors = [f"{mirror.address}nothing/here/", mirror.address]
    assert len(fetch("MNIST", tmp_path / "raw", scratch, mirrors)["test.images"]) == 20


def test_mirrors_of_one_call_are_not_those_of_the_next(tmp_path: Path, scratch: Path, mirror: Mirror) -> None:
    from torchvision import datasets

    before = list(datasets.MNIST.mirrors)
    fetch("MNIST", tmp_path / "raw", scratch, mirrors=[mirror.address])
    assert datasets.MNIST.mirrors == before


def test_network_that_swallows_packets_is_given_up_without_a_word_on_stdout(
    tmp_path: Path,
    scratch: Path,
    small_mnist: dict[str, bytes],
    silent_network: None,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(download, "PATIENCE", 1.0)
    with pytest.raises(NoNetworkError, match="could not be downloaded"):
        fetch("MNIST", tmp_path / "raw", scratch)
    assert capfd.readouterr() == ("", "")
    assert not (tmp_path / "raw").exists()
    assert socket.getdefaulttimeout() is None


def test_name_that_is_never_resolved_is_given_up_and_does_no_harm_later(
    tmp_path: Path,
    scratch: Path,
    mirror: Mirror,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """A look-up obeys no time limit of a socket. The thread that waits for it is left behind, and may go on one day."""
    resolve, answered = socket.getaddrinfo, threading.Event()
    others = set(threading.enumerate())

    def hang(*arguments: object, **options: object) -> object:
        answered.wait()
        return resolve(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(download, "PATIENCE", 0.5)
    monkeypatch.setattr(socket, "getaddrinfo", hang)
    with pytest.raises(NoNetworkError, match="no answer"):
        fetch("MNIST", tmp_path / "raw", scratch, mirrors=[mirror.address])
    answered.set()
    for thread in set(threading.enumerate()) - others:
        thread.join(10)
    assert not (tmp_path / "raw").exists()
    assert capfd.readouterr().out == ""


def test_download_is_not_shown_where_there_is_no_terminal(
    tmp_path: Path, scratch: Path, mirror: Mirror, capfd: pytest.CaptureFixture[str]
) -> None:
    fetch("MNIST", tmp_path / "raw", scratch, mirrors=[mirror.address])
    assert capfd.readouterr() == ("", "")
