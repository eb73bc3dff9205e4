"""Timing: what calls are said to take is what they took."""

from itertools import pairwise

import pytest
import torch

from kd_cli.evaluation import timing
from tests.evaluation.clock import Call, Clock


def test_percentiles_are_those_of_the_calls_in_milliseconds(clock: Clock) -> None:
    (found,) = timing.measure_latencies([Call(clock, *range(1, 102))])
    assert (found.p25, found.p50, found.p75, found.p95, found.p99) == pytest.approx((26, 51, 76, 96, 100), abs=3)


def test_each_call_has_its_own_latency_in_the_order_given(clock: Clock) -> None:
    found = timing.measure_latencies([Call(clock, 3.0), Call(clock, 1.0)])
    assert [each.p50 for each in found] == pytest.approx([3, 1])


def test_calls_take_turns_of_many_repeats(clock: Clock) -> None:
    log: list[str] = []
    timing.measure_latencies([Call(clock, 1.0, name="a", log=log), Call(clock, 1.0, name="b", log=log)])
    changes = sum(one != other for one, other in pairwise(log))
    assert changes == 2 * timing.ROUNDS + 1  # the first two turns find out how often each is repeated
    assert log.count("a") == log.count("b") > timing.ROUNDS * timing.ROUND_CALLS


def test_a_slow_call_is_repeated_less_often(clock: Clock) -> None:
    slow = Call(clock, 1000.0)
    timing.measure_latencies([slow])
    assert slow.count <= 3 * timing.ROUNDS + 2


def test_a_first_call_that_takes_longer_does_not_count(clock: Clock) -> None:
    call = Call(clock, 1000.0, *[1.0] * 100_000)
    assert max(timing.repeat(call)) == pytest.approx(1e-3)


def test_repeats_go_on_for_as_long_as_told(clock: Clock) -> None:
    assert len(timing.repeat(Call(clock, 10.0), seconds=0.095)) == 10
    assert sum(timing.repeat(Call(clock, 10.0))) == pytest.approx(timing.MEASURED_SECONDS, abs=0.011)


def fail_with(threads: int) -> None:
    with timing.torch_threads(threads):
        assert torch.get_num_threads() == threads
        raise ZeroDivisionError


def test_threads_are_as_before_after_an_error() -> None:
    before = torch.get_num_threads()
    with pytest.raises(ZeroDivisionError):
        fail_with(before + 1)
    assert torch.get_num_threads() == before
