"""What processes that train together tell each other."""

import time
from pathlib import Path

import pytest
import torch
from torch import Tensor

from kd_cli.config import DeviceName, KdError
from kd_cli.data.shares import Share
from kd_cli.training import device, shared_memory
from kd_cli.training.group import GROUP_OF_ONE, Group, join
from tests.training.ranks import can_fork, errors_on_ranks, on_ranks


@pytest.fixture(params=[True, False], ids=["by memory", "by messages"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """How processes exchange tensors."""
    monkeypatch.setattr(shared_memory, "USABLE", shared_memory.USABLE and request.param)


@can_fork
@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("count", [6, 7, 2])
def test_gathered_rows_are_those_of_all_processes_in_order(count: int) -> None:
    whole = torch.arange(2.0 * count).view(count, 2)

    def gather(group: Group) -> Tensor:
        return group.gather(whole[group.of(count)], count)

    assert all(torch.equal(gathered, whole) for gathered in on_ranks(3, gather))


@can_fork
def test_gradients_that_flow_back_have_the_processes_mean_of_the_whole_batch() -> None:
    values = torch.arange(1.0, 8.0)

    def differentiate(group: Group) -> Tensor:
        weight = torch.tensor(2.0, requires_grad=True)
        group.gather(weight * values[group.of(7)], 7).square().sum().backward()
        assert weight.grad is not None
        return weight.grad

    mean = torch.stack(on_ranks(3, differentiate)).mean()
    assert mean == pytest.approx(4 * values.square().sum().item())  # the derivative of (weight * value)^2 at 2


@can_fork
def test_what_the_first_process_makes_reaches_all_of_them() -> None:
    made = on_ranks(3, lambda group: group.from_first(lambda: {"rank": group.rank, "values": torch.ones(2)}))
    assert [each["rank"] for each in made] == [0, 0, 0]


@can_fork
def test_the_first_process_of_a_machine_is_done_before_the_others_begin(tmp_path: Path) -> None:
    def prepare(group: Group) -> bool:
        with group.first_of_machine_first():
            found = (tmp_path / "prepared").exists()
            time.sleep(0.2 * (group.rank == 0))
            (tmp_path / "prepared").touch()
        return found

    assert on_ranks(2, prepare) == [False, True]


@can_fork
def test_what_differs_between_processes_is_named_in_all_of_them() -> None:
    def compare(group: Group) -> None:
        group.require_same({"epochs": 5, "lr": 0.1 if group.rank == 1 else 0.2}, "use one command")

    expected = "KdError: the 2 processes differ in lr (0.2 and 0.1): use one command"
    assert errors_on_ranks(2, compare) == [expected] * 2


@can_fork
@pytest.mark.usefixtures("way")
def test_a_process_that_ends_is_told_of_by_those_that_wait_for_it() -> None:
    def leave(group: Group) -> Tensor:
        if group.rank == 1:
            raise ZeroDivisionError("first")
        return group.gather(torch.ones(1), 2)

    first, second = errors_on_ranks(2, leave)
    assert second == "ZeroDivisionError: first"
    assert first.startswith("KdError: a process of the run has ended; repeat the command with --resume")


def test_a_process_alone_does_all_of_that_by_itself() -> None:
    rows = torch.ones(3)
    assert GROUP_OF_ONE.gather(rows, 3) is rows
    assert GROUP_OF_ONE.from_first(lambda: 7) == 7
    GROUP_OF_ONE.require_same({"lr": 1}, "")
    with GROUP_OF_ONE.first_of_machine_first():
        pass


@pytest.fixture
def second_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """What torchrun would tell the second of two processes."""
    place = {"RANK": 1, "LOCAL_RANK": 1, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": 1}
    for name, value in place.items():
        monkeypatch.setenv(name, str(value))


@pytest.mark.usefixtures("second_of_two")
def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "select", lambda _: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(KdError, match="has 1 GPUs: use --nproc-per-node 1"), join(DeviceName.auto):
        pass


@pytest.mark.usefixtures("second_of_two")
def test_devices_that_processes_cannot_share_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "select", lambda _: torch.device("mps"))
    with pytest.raises(KdError, match="use --device cpu"), join(DeviceName.auto):
        pass


def test_a_group_is_a_share() -> None:
    assert isinstance(GROUP_OF_ONE, Share)
