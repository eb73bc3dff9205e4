"""Tensors that processes of one machine show each other."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import Tensor

from kd_cli.training import shared_memory
from kd_cli.training.shared_memory import FOLDER, SLOT_BYTES, SharedMemory, share_memory, size_for
from tests.training.ranks import can_fork, on_ranks

pytestmark = pytest.mark.skipif(not shared_memory.USABLE, reason="needs Linux on x86")

SHAPES = [(), (3,), (2, 5), (SLOT_BYTES // 8,)]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "memory"
    path.write_bytes(bytes(size_for(2)))
    return path


def shown(number: int, rank: int) -> Tensor:
    """What a process shows at a time."""
    kind = torch.float64 if number % 2 else torch.int64
    return torch.full(SHAPES[number % len(SHAPES)], 2 * number + rank, dtype=kind)


def test_everybody_sees_what_all_have_shown_time_after_time(file: Path) -> None:
    def take_part(rank: int) -> list[Tensor]:
        memory = SharedMemory(file, rank, [os.getpid()] * 2)
        return [memory.exchange(shown(number, rank)) for number in range(500)]

    with ThreadPoolExecutor(2) as threads:
        everything = list(threads.map(take_part, range(2)))
    for number, seen in enumerate(zip(*everything, strict=True)):
        expected = torch.stack([shown(number, 0), shown(number, 1)])
        assert all(torch.equal(each, expected) and each.dtype == expected.dtype for each in seen)


def test_a_process_that_has_ended_is_not_waited_for(file: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        memory = SharedMemory(file, 0, [os.getpid(), other.pid])
        other.kill()
        with pytest.raises(RuntimeError, match="connection closed: process 1 has ended"):
            memory.exchange(torch.ones(2))
        memory.close()


def test_nothing_is_shared_where_one_process_cannot() -> None:
    assert share_memory(0, lambda own: [own, False]) is None


def test_nothing_is_shared_where_there_is_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    before = set(FOLDER.iterdir())
    assert share_memory(0, lambda own: [own]) is None
    assert set(FOLDER.iterdir()) <= before


@can_fork
def test_the_file_is_gone_while_the_processes_share_its_memory() -> None:
    def names(_: object) -> set[str]:
        return {path.name for path in FOLDER.glob("kd-*")}

    before = names(None)
    assert all(found <= before for found in on_ranks(2, names))
