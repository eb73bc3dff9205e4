"""Work of several processes that train together: forked from this one, so that torch is imported already."""

import multiprocessing
import os
import pickle
import socket
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import pytest
import torch
import torch._dynamo  # torch's DDP does so: once here rather than in every process

from kd_cli.config import DeviceName
from kd_cli.training.group import Group, join

can_fork = pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods() or torch.cuda.is_available(),
    reason="forks, which autograd does not survive beside a GPU",
)

Work = Callable[[Group], Any]

WAIT_SECONDS = 60


def on_ranks(size: int, work: Work) -> list[Any]:
    """What ``work`` returns in each of ``size`` processes that have joined, in their order."""
    return run_on_ranks(size, lambda: _join_and(work))


def run_on_ranks(size: int, command: Callable[[], Any]) -> list[Any]:
    """What a command that joins by itself returns in each of ``size`` processes."""
    outcomes = _carry_out(size, command)
    assert [error for _, error in outcomes if error] == []
    return [value for value, _ in outcomes]


def errors_on_ranks(size: int, work: Work) -> list[str]:
    """What went wrong in each process that had joined; "" where nothing did."""
    return errors_of_command(size, lambda: _join_and(work))


def errors_of_command(size: int, command: Callable[[], Any]) -> list[str]:
    """The same for a command that joins by itself."""
    return [error for _, error in _carry_out(size, command)]


def _join_and(work: Work) -> Any:
    with join(DeviceName.cpu) as group:
        return work(group)


def _carry_out(size: int, command: Callable[[], Any]) -> list[tuple[Any, str]]:
    context = multiprocessing.get_context("fork")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    pipes = [context.Pipe(duplex=False) for _ in range(size)]
    processes = [
        context.Process(target=_take_part, args=(rank, size, port, command, sender))
        for rank, (_, sender) in enumerate(pipes)
    ]
    for process in processes:
        process.start()
    try:
        return [_receive(receiver) for receiver, _ in pipes]
    finally:
        for process in processes:
            process.kill()
            process.join()


def _receive(receiver: Connection) -> tuple[Any, str]:
    assert receiver.poll(WAIT_SECONDS), "a process does not come to an end"
    outcome: tuple[Any, str] = pickle.loads(receiver.recv_bytes())  # noqa: S301 (our own)
    return outcome


def _take_part(rank: int, size: int, port: int, command: Callable[[], Any], sender: Connection) -> None:
    torch.set_num_threads(1)  # the parent's threads are not there
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in place.items()})
    outcome: tuple[Any, str] = (None, "")
    try:
        outcome = (command(), "")
    except BaseException as error:
        outcome = (None, f"{type(error).__name__}: {error}")
    sender.send_bytes(pickle.dumps(outcome))
    os._exit(0)
