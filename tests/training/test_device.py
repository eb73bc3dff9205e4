"""Devices: which one is chosen, what it can hold, and how many threads work."""

import os

import pytest
import torch

from kd_cli.config import DeviceName, KdError
from kd_cli.training import device, memory


def machine(monkeypatch: pytest.MonkeyPatch, cuda: bool, mps: bool) -> None:
    """Let torch find these devices."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


@pytest.mark.parametrize(
    ("cuda", "mps", "chosen"),
    [(True, True, "cuda"), (True, False, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_auto_is_the_fastest_device_that_is_there(
    monkeypatch: pytest.MonkeyPatch, cuda: bool, mps: bool, chosen: str
) -> None:
    machine(monkeypatch, cuda, mps)
    assert device.select(DeviceName.auto) == torch.device(chosen)


@pytest.mark.parametrize("name", [DeviceName.cpu, DeviceName.cuda, DeviceName.mps])
def test_device_that_is_asked_for_is_taken_where_it_is_there(monkeypatch: pytest.MonkeyPatch, name: DeviceName) -> None:
    machine(monkeypatch, cuda=True, mps=True)
    assert device.select(name) == torch.device(name.value)


@pytest.mark.parametrize("name", [DeviceName.cuda, DeviceName.mps])
def test_device_that_is_not_there_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, name: DeviceName) -> None:
    machine(monkeypatch, cuda=False, mps=False)
    with pytest.raises(KdError, match=f"no {name.value} device"):
        device.select(name)


@pytest.mark.parametrize(("threads", "text"), [(1, "cpu (1 thread)"), (2, "cpu (2 threads)")])
def test_cpu_is_described_with_the_threads_that_work(threads: int, text: str) -> None:
    assert device.describe(torch.device("cpu"), threads) == ("cpu", text)


def test_cpu_is_described_with_the_threads_of_torch_unless_told_otherwise() -> None:
    assert f"({torch.get_num_threads()} thread" in device.describe(torch.device("cpu"))[1]


def test_gpu_is_described_with_its_hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Brand X")
    assert device.describe(torch.device("cuda")) == ("cuda", "cuda (Brand X)")


def test_work_that_no_machine_holds_is_refused_in_one_line() -> None:
    with pytest.raises(KdError, match=r"training mlp-9 needs at least 1,000,000 GB.*use a smaller") as caught:
        memory.require_memory(10**15, "training mlp-9")
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not hasattr(os, "sysconf"), reason="memory cannot be asked for")
def test_work_that_fits_is_let_through() -> None:
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    memory.require_memory(there, "all of it")
    with pytest.raises(KdError):
        memory.require_memory(there + 1, "more")


def test_work_is_let_through_where_memory_cannot_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sysconf", raising=False)
    memory.require_memory(10**15, "anything")


def test_memory_that_torch_cannot_get_is_recognised() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert device.is_out_of_memory(caught.value)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried ..."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:80] DefaultCPUAllocator: not enough memory: you tried ..."),
        RuntimeError("MPS backend out of memory (MPS allocated: 8.00 GB, other allocations: 1.00 GB)"),
        RuntimeError("CUDA error: out of memory"),
    ],
    ids=repr,
)
def test_errors_of_every_allocator_are_recognised(error: Exception) -> None:
    assert device.is_out_of_memory(error)


@pytest.mark.parametrize("error", [RuntimeError("shapes cannot be multiplied"), ValueError("out of memory"), OSError()])
def test_other_errors_are_not_taken_for_a_lack_of_memory(error: Exception) -> None:
    assert not device.is_out_of_memory(error)


@pytest.mark.parametrize(("macs", "threads"), [(1, 1), (device.MACS_WORTH_SHARING, 2)])
def test_only_work_that_is_worth_sharing_is_shared_among_threads(two_threads: None, macs: int, threads: int) -> None:
    with device.threads_for(macs):
        assert torch.get_num_threads() == threads
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("macs", [1, device.MACS_WORTH_SHARING])
@pytest.mark.parametrize("asked", [1, 2, 3])
def test_work_is_shared_among_as_many_threads_as_asked_for(two_threads: None, macs: int, asked: int) -> None:
    with device.threads_for(macs, asked):
        assert torch.get_num_threads() == asked
    assert torch.get_num_threads() == 2


def test_threads_are_as_before_after_an_error(two_threads: None) -> None:
    with pytest.raises(KeyboardInterrupt), device.threads_for(1):
        raise KeyboardInterrupt
    assert torch.get_num_threads() == 2


def test_same_convolutions_are_chosen_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", False)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    device.make_repeatable()
    assert torch.backends.cudnn.deterministic
    assert not torch.backends.cudnn.benchmark


def test_allocator_is_left_alone_where_it_is_not_glibcs(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: None) -> None:
        raise AssertionError("no library of this system is asked")

    monkeypatch.setattr("platform.libc_ver", lambda: ("", ""))
    monkeypatch.setattr("ctypes.CDLL", refuse)
    memory.keep_freed_memory()
