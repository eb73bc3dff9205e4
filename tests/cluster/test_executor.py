"""The cluster's executor: what becomes of tasks when workers or the scheduler go."""

from concurrent.futures import Executor, Future, wait
from typing import Any

import pytest

from kd_cli.config import KdError
from kd_cli.training.processes import WorkerDiedError, carry_out
from tests.training import tasks

distributed = pytest.importorskip("distributed")

from kd_cli.cluster import executor as room  # noqa: E402
from kd_cli.cluster import worker  # noqa: E402
from kd_cli.cluster.executor import ClusterExecutor  # noqa: E402


class Dask(Executor):
    """In place of Dask's executor: futures that the test resolves."""

    def __init__(self) -> None:
        self.sent: list[Future[bytes]] = []
        self.waited: bool | None = None

    def submit(self, fn, /, *args, **kwargs):  # type: ignore[no-untyped-def]
        self.sent.append(Future())
        return self.sent[-1]

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self.waited = wait


class Client:
    """In place of Dask's client, of which the executor needs little."""

    def __init__(self) -> None:
        self.dask = Dask()
        self.options: dict[str, Any] = {}

    def get_executor(self, **options: Any) -> Dask:
        self.options = options
        return self.dask


class Cluster:
    """A cluster of two machines, one of which has two workers."""

    def __init__(self) -> None:
        self.client = Client()
        self.command = "0"
        self.hosts = ["a", "b"]
        self.machines = {"tcp://a:1": "a", "tcp://a:2": "a", "tcp://b:1": "b"}

    def list_workers(self) -> dict[str, dict[str, Any]]:
        return {f"tcp://{host}:1": {"host": host} for host in self.hosts}

    def lost(self) -> KdError:
        return KdError("lost the cluster")


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture
def executor(cluster: Cluster) -> ClusterExecutor:
    return ClusterExecutor(cluster, tasks.double)  # type: ignore[arg-type]


def test_a_task_is_adapted_to_the_machine_that_carries_it_out(executor: ClusterExecutor, cluster: Cluster) -> None:
    future = executor.submit(tasks.double, 3)
    packed = worker.pack(tasks.double, tasks.double, 3)
    cluster.client.dask.sent[0].set_result(worker._carry_out_packed(packed, "."))
    assert future.result(10) == 12


def test_no_other_machine_is_used_than_those_that_have_the_files(executor: ClusterExecutor, cluster: Cluster) -> None:
    assert cluster.client.options["workers"] == ["a", "b"]


def test_a_worker_that_dies_again_and_again_costs_only_its_task(cluster: Cluster) -> None:
    outcomes = carry_out([1, 2], tasks.double, 2, lambda _: ClusterExecutor(cluster, tasks.double))  # type: ignore[arg-type]
    waiting = iter(outcomes)

    class Resolved(Dask):
        def submit(self, fn, /, *args, **kwargs):  # type: ignore[no-untyped-def]
            future = super().submit(fn)
            if len(self.sent) == 1:
                future.set_exception(distributed.KilledWorker("task", None, 3))
            else:
                future.set_result(worker._carry_out_packed(args[0], "."))
            return future

    cluster.client.dask = Resolved()
    found = dict(waiting)
    assert isinstance(found.pop(1), WorkerDiedError)
    assert found == {2: 8}


def test_a_scheduler_that_goes_ends_all_tasks(executor: ClusterExecutor, cluster: Cluster) -> None:
    futures = [executor.submit(tasks.double, number) for number in range(2)]
    for sent in cluster.client.dask.sent:
        sent.cancel()  # as Dask does
        sent.set_running_or_notify_cancel()
    for future in futures:
        with pytest.raises(KdError, match="lost the cluster"):
            future.result(10)


def test_what_a_task_raises_is_not_hidden(executor: ClusterExecutor, cluster: Cluster) -> None:
    future = executor.submit(tasks.double, 3)
    cluster.client.dask.sent[0].set_exception(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        future.result(10)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """A minute passes in a moment."""
    monkeypatch.setattr(room, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(room, "PATIENCE_SECONDS", 0.05)


@pytest.mark.parametrize("left", [[], ["c"]])
def test_nobody_waits_for_machines_that_do_not_come_back(hasty: None, cluster: Cluster, left: list[str]) -> None:
    future = ClusterExecutor(cluster, tasks.double).submit(tasks.double, 3)  # type: ignore[arg-type]
    cluster.hosts = left
    with pytest.raises(KdError, match="lost the cluster"):
        future.result(10)


def test_a_machine_that_is_there_is_waited_for(hasty: None, cluster: Cluster) -> None:
    future = ClusterExecutor(cluster, tasks.double).submit(tasks.double, 3)  # type: ignore[arg-type]
    cluster.hosts = ["b"]
    assert wait([future], 0.3).not_done


def test_interrupted_it_cancels_what_is_carried_out(executor: ClusterExecutor, cluster: Cluster) -> None:
    executor.shutdown(wait=False, cancel_futures=True)
    assert cluster.client.dask.waited is False


def test_it_ends_although_the_scheduler_is_gone(
    executor: ClusterExecutor, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("closed")

    monkeypatch.setattr(cluster.client.dask, "shutdown", fail)
    executor.shutdown(wait=False)
