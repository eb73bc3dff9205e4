"""Disks that are full, and folders that cannot be written."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import CommandLine


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 400 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("mounting a small disk needs Linux and root")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_disk_that_fills_up_during_a_write_leaves_the_old_checkpoint(kd: CommandLine, small_disk: Path) -> None:
    train = ("train-teacher", "--dataset", "digits", "--epochs", "1", "--models-dir", small_disk)
    # A checkpoint of cnn-2 has 22 kB, and the state that is kept beside it three times as much; cnn-32's is too large.
    assert kd(*train, "--arch", "cnn-2")[0] == 0
    path = small_disk / "digits" / "teacher.safetensors"
    before = path.read_bytes()
    code, _, stderr = kd(*train, "--arch", "cnn-32")
    assert (code, stderr.count("\n")) == (1, 1)
    assert "No space left on device" in stderr
    assert str(small_disk) in stderr
    assert path.read_bytes() == before
    assert [each.name for each in path.parent.iterdir() if each.suffix == ".tmp"] == []
