"""A cluster that cannot be used is refused in one line, before anything is computed."""

import copy
import platform
import socket
import threading
from typing import Any

import pytest

from kd_cli.config import KdError

pytest.importorskip("distributed")

from kd_cli.cluster import connection
from kd_cli.cluster.connection import Cluster, _require_same_versions

HERE: dict[str, Any] = {
    "host": {"python": f"{platform.python_version()}.final.0"},
    "packages": {"distributed": "2026.8.0", "kd-cli": "0.1.0", "torch": "2.14.1"},
}


@pytest.fixture
def versions() -> dict[str, Any]:
    """What Dask tells of a scheduler and two workers that have what this command has."""
    workers = {f"tcp://10.0.0.{number}:1": copy.deepcopy(HERE) for number in range(2)}
    return {"client": HERE, "scheduler": copy.deepcopy(HERE), "workers": workers}


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is waited for."""
    monkeypatch.setattr(connection, "CONNECT_SECONDS", 0.3)


def test_equal_versions_will_do(versions: dict[str, Any]) -> None:
    _require_same_versions(versions)


@pytest.mark.parametrize("package", ["distributed", "kd-cli", "torch"])
def test_a_worker_with_another_version_is_named(versions: dict[str, Any], package: str) -> None:
    versions["workers"]["tcp://10.0.0.1:1"]["packages"][package] = "9"
    with pytest.raises(KdError, match=f"worker tcp://10.0.0.1:1 has {package} 9, and this command"):
        _require_same_versions(versions)


def test_a_worker_without_a_package_is_named(versions: dict[str, Any]) -> None:
    versions["workers"]["tcp://10.0.0.1:1"]["packages"]["kd-cli"] = None
    with pytest.raises(KdError, match=r"worker tcp://10.0.0.1:1 has kd-cli \(none\)"):
        _require_same_versions(versions)


def test_a_scheduler_with_another_version_is_named(versions: dict[str, Any]) -> None:
    versions["scheduler"]["packages"]["distributed"] = "9"
    with pytest.raises(KdError, match="the scheduler has distributed 9, and this command"):
        _require_same_versions(versions)


def test_a_scheduler_needs_no_torch(versions: dict[str, Any]) -> None:
    versions["scheduler"]["packages"]["torch"] = None
    _require_same_versions(versions)


def test_another_python_is_named(versions: dict[str, Any]) -> None:
    versions["workers"]["tcp://10.0.0.1:1"]["host"]["python"] = "3.4.0.final.0"
    with pytest.raises(KdError, match=r"worker tcp://10.0.0.1:1 runs Python 3.4.0.final.0"):
        _require_same_versions(versions)


def test_a_scheduler_that_is_not_there_is_one_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"  # bound, and deaf
        with pytest.raises(KdError, match=f"no scheduler answers at {address}: .*dask scheduler"):
            Cluster(address)


def test_a_server_of_another_kind_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            with server.accept()[0] as caller:
                caller.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        threading.Thread(target=answer, daemon=True).start()
        with pytest.raises(KdError, match="no scheduler answers"):
            Cluster(f"tcp://127.0.0.1:{server.getsockname()[1]}")


@pytest.mark.slow  # looks for as long as a worker may take to come
def test_a_name_that_leads_nowhere_is_one_line() -> None:
    with pytest.raises(KdError, match="no scheduler answers"):
        Cluster("tcp://nowhere.invalid:8786")
