"""The notice that other programs use the machine."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from kd_cli.config import TrainingConfig
from kd_cli.data.dataset import Dataset
from kd_cli.training import busy, device
from kd_cli.training.busy import BusyMachine
from kd_cli.training.loop import Epoch
from kd_cli.training.tally import Progress
from tests.training.test_loop import start

CONFIG = TrainingConfig(epochs=3)


@pytest.fixture
def two_cores(monkeypatch: pytest.MonkeyPatch, two_threads: None) -> None:
    """Two cores, two threads, and work that is worth sharing."""
    monkeypatch.setattr(busy, "usable_cores", lambda: {0, 1})
    monkeypatch.setattr(device, "MACS_WORTH_SHARING", 0)


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Callable[[float | None], None]:
    """Let a clock run by a second at each look, and other programs use so many cores meanwhile."""

    def set_load(cores: float | None) -> None:
        clock = 0.0

        def tick() -> float:
            nonlocal clock
            clock += 1.0
            return clock

        monkeypatch.setattr("kd_cli.training.busy.time.perf_counter", tick)
        monkeypatch.setattr(busy, "seconds_of_others", lambda: None if cores is None else cores * clock)

    return set_load


def notices(tiny: Dataset, config: TrainingConfig, caplog: pytest.LogCaptureFixture) -> list[str]:
    """What is said in a run of three epochs."""
    training, notice = start(tiny, config), BusyMachine()
    notice.on_fit_begin(training)
    for number in range(1, 4):
        notice.on_progress(training, Progress(1.0, 0.5))
        notice.on_epoch_end(training, Epoch(number, 1.0, 0.5, 1.0))
    return caplog.messages


def test_load_of_others_is_said_once_with_what_to_do(
    tiny: Dataset, two_cores: None, load: Callable[[float | None], None], caplog: pytest.LogCaptureFixture
) -> None:
    load(0.9)
    expected = "other programs use 0.9 of 2 cores: on a machine this busy --threads 1 is faster"
    assert notices(tiny, CONFIG, caplog) == [expected]


@pytest.mark.parametrize(("cores", "count"), [(0.0, 0), (0.4, 0), (0.6, 1), (2.0, 1)])
def test_less_than_half_a_core_is_tolerated(
    tiny: Dataset,
    two_cores: None,
    load: Callable[[float | None], None],
    caplog: pytest.LogCaptureFixture,
    cores: float,
    count: int,
) -> None:
    load(cores)
    assert len(notices(tiny, CONFIG, caplog)) == count


@pytest.mark.parametrize("threads", [1, 2])
def test_nothing_is_said_to_who_chose_the_threads(
    tiny: Dataset,
    two_cores: None,
    load: Callable[[float | None], None],
    caplog: pytest.LogCaptureFixture,
    threads: int,
) -> None:
    load(2.0)
    assert notices(tiny, TrainingConfig(epochs=3, threads=threads), caplog) == []


def test_nothing_is_said_of_work_for_one_thread(
    tiny: Dataset,
    two_cores: None,
    load: Callable[[float | None], None],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(device, "MACS_WORTH_SHARING", 10**12)
    load(2.0)
    assert notices(tiny, CONFIG, caplog) == []


def test_nothing_is_said_where_the_system_does_not_count(
    tiny: Dataset, two_cores: None, load: Callable[[float | None], None], caplog: pytest.LogCaptureFixture
) -> None:
    load(None)
    assert notices(tiny, CONFIG, caplog) == []


def test_others_are_what_the_cores_of_this_process_do_beside_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(busy, "STATISTICS", tmp_path / "stat")
    monkeypatch.setattr(busy, "usable_cores", lambda: {1})
    ticks = os.sysconf("SC_CLK_TCK")
    (tmp_path / "stat").write_text(
        f"cpu 9 9 9 9 9 9 9 9 9 9\ncpu0 9 9 9 9 9 9 9 9 9 9\n"
        f"cpu1 {1000 * ticks} {200 * ticks} {30 * ticks} 7777 7777 {4 * ticks} {5 * ticks} 7777 0 0\ncpu10 9 9\n"
    )
    own = os.times()
    expected = 1239 - own.user - own.system - own.children_user - own.children_system
    assert busy.seconds_of_others() == pytest.approx(expected, abs=0.5)


def test_a_system_without_statistics_counts_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(busy, "STATISTICS", tmp_path / "missing")
    assert busy.seconds_of_others() is None
