"""Disks that are full."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import CommandLine

MakeDisk = Callable[[int], Path]


@pytest.fixture
def make_disk(tmp_path: Path) -> Iterator[MakeDisk]:
    """Makes a disk of so many kB."""
    folder = tmp_path / "disk"

    def make(size: int) -> Path:
        folder.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", str(folder)]
        try:
            mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
        except FileNotFoundError:
            mounted = False
        if not mounted:
            folder.rmdir()
            pytest.skip("mounting a small disk needs Linux and root")
        return folder

    yield make
    if folder.exists():
        subprocess.run(["umount", folder], check=True)


def train(disk: Path, *options: str) -> tuple[str, ...]:
    return ("train-teacher", "--dataset", "digits", "--models-dir", str(disk), *options)


def test_disk_that_fills_up_during_a_write_leaves_the_old_checkpoint(kd: CommandLine, make_disk: MakeDisk) -> None:
    disk = make_disk(200)
    # A checkpoint of cnn-2 has 22 kB, and one of cnn-32 has 272.
    assert kd(*train(disk, "--arch", "cnn-2", "--epochs", "1"))[0] == 0
    path = disk / "digits" / "teacher.safetensors"
    before = path.read_bytes()
    code, _, stderr = kd(*train(disk, "--arch", "cnn-32", "--epochs", "1"))
    assert (code, stderr.count("\n")) == (1, 1)
    assert "No space left on device" in stderr
    assert str(disk) in stderr
    assert path.read_bytes() == before
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_disk_without_room_for_the_state_of_a_run_still_gets_its_result(kd: CommandLine, make_disk: MakeDisk) -> None:
    disk = make_disk(400)  # the state takes three times as much as the checkpoint
    code, _, stderr = kd(*train(disk, "--arch", "cnn-32", "--epochs", "2"))
    assert code == 0
    assert "No space left on device" in stderr
    assert [path.name for path in (disk / "digits").iterdir()] == ["teacher.safetensors"]


def test_disk_without_room_for_a_prepared_copy_still_serves_the_data(kd: CommandLine, make_disk: MakeDisk) -> None:
    disk = make_disk(400)
    code, _, stderr = kd("train-teacher", "--dataset", "digits", "--arch", "cnn-2", "--epochs", "1", "--data-dir", disk)
    assert code == 0
    assert "No space left on device" in stderr


@pytest.mark.parametrize("size", [16_000, 40_000], ids=["no copy", "no unpacking"])  # the archives have 11.6 MB
@pytest.mark.parametrize("dataset", ["mnist", "auto"])
def test_disk_without_room_to_unpack_the_archives_is_named_in_one_line(
    kd: CommandLine, make_disk: MakeDisk, archives: Path, dataset: str, size: int
) -> None:
    disk = make_disk(size)
    (disk / "MNIST" / "raw").mkdir(parents=True)
    for archive in archives.glob("*.gz"):
        shutil.copy(archive, disk / "MNIST" / "raw")
    code, _, stderr = kd("train-teacher", "--dataset", dataset, "--data-dir", disk)
    assert (code, stderr.count("\n")) == (1, 1)
    assert "No space left on device" in stderr
    assert "network" not in stderr
