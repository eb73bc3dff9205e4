"""What a process knows of the others that were started with it, and which one speaks to the user."""

import logging
import os
import signal
import time
from collections.abc import Iterator
from datetime import timedelta
from unittest.mock import Mock

import pytest
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from kd_cli.training import launch
from kd_cli.training.launch import Launch, current_launch
from tests.conftest import CommandLine

PLACE = {"RANK": "1", "WORLD_SIZE": "4", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}

NOWHERE = ("127.0.0.1", 1)


@pytest.fixture
def second_of_four(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, value in PLACE.items():
        monkeypatch.setenv(name, value)
    yield
    logging.getLogger("kd_cli").setLevel(logging.INFO)  # such a process is silent


@pytest.mark.usefixtures("second_of_four")
def test_place_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert current_launch() == Launch(rank=1, size=4, local_rank=0, address=NOWHERE)
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "3")
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")
    assert current_launch() == Launch(1, 4, 0, restarts=1, restarts_left=2, address=NOWHERE, has_store=True)


@pytest.mark.usefixtures("second_of_four")
@pytest.mark.parametrize("missing", ["RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"])
def test_a_process_without_all_of_it_is_alone(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(missing)
    assert current_launch() == Launch()
    assert current_launch().is_first


@pytest.fixture
def deaf(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process keeps its own signals, and waits for nobody."""
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(launch, "PRECEDENCE_SECONDS", 0.0)


@pytest.mark.usefixtures("deaf")
def test_one_of_all_processes_tells_after_each_start() -> None:
    store = TCPStore("127.0.0.1", 0, is_master=True, timeout=timedelta(seconds=5), wait_for_workers=False)
    for restarts in (0, 1):
        launches = [Launch(rank, 4, restarts=restarts, address=("127.0.0.1", store.port)) for rank in (2, 0, 1, 3)]
        told = [launch.may_tell() for launch in launches]
        assert told == [True, False, False, False]


@pytest.mark.usefixtures("deaf")
def test_a_process_tells_where_nobody_can_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.distributed.TCPStore", Mock(side_effect=RuntimeError("nobody there")))
    assert Launch(1, 4).may_tell()


@pytest.mark.usefixtures("deaf")
def test_the_first_process_goes_before_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr("torch.distributed.TCPStore", Mock(side_effect=RuntimeError("nobody there")))
    monkeypatch.setattr(launch, "PRECEDENCE_SECONDS", 3.0)
    monkeypatch.setattr(time, "sleep", waited.append)
    assert Launch(0, 4).may_tell()
    assert waited == []
    assert Launch(1, 4).may_tell()
    assert waited == [3.0]


@pytest.mark.skipif(os.name != "posix", reason="sends Unix signals")
def test_a_second_signal_does_not_interrupt_what_the_first_one_began(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_CPP_LOG_LEVEL", "ERROR")  # so that the test leaves the environment as it was
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        Launch(0, 2).prepare()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@pytest.mark.usefixtures("second_of_four", "deaf")
@pytest.mark.parametrize("command", ["compare", "tune", "evaluate", "benchmark", "export", "predict", "app", "list"])
def test_commands_that_compute_in_one_process_say_so(
    command: str, kd: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Launch, "may_tell", lambda _: True)
    assert kd(command) == (1, "", f"kd: kd {command} computes in one process: start it without torchrun\n")
