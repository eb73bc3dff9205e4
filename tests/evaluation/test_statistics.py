"""Paired statistics: those of scipy, adjusted as Holm did, and no verdict where nothing is shown."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from kd_cli.evaluation.statistics import BETTER, UNDECIDED, WORSE, Difference, adjust, compare_pairs

METHOD = [0.981, 0.983, 0.982, 0.984, 0.980]
BASELINE = [0.978, 0.979, 0.980, 0.979, 0.979]

accuracies = st.integers(0, 10_000).map(lambda count: count / 10_000)
pairs = st.lists(st.tuples(accuracies, accuracies), min_size=2, max_size=10)


def difference(p_value: float | None, mean: float = 0.01) -> Difference:
    return Difference(mean, None if p_value is None else (0.0, 1.0), p_value, p_value, UNDECIDED)


def known(differences: Sequence[Difference | None]) -> list[Difference]:
    return [each for each in differences if each is not None]


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjustment as textbooks define it: the largest of (m - j + 1) p_(j) over all j up to one's own rank."""
    ascending = sorted(p_values)
    m = len(ascending)
    adjusted = []
    for p_value in p_values:
        rank = ascending.index(p_value) + ascending.count(p_value)
        adjusted.append(min(1.0, max((m - j + 1) * ascending[j - 1] for j in range(1, rank + 1))))
    return adjusted


def test_mean_and_interval_are_those_of_a_textbook() -> None:
    """By hand: mean +- t(0.975, n - 1) s / sqrt(n)."""
    gaps = np.subtract(METHOD, BASELINE)
    half = 2.7764451052 * gaps.std(ddof=1) / math.sqrt(5)
    found = compare_pairs(METHOD, BASELINE)
    assert found.mean == pytest.approx(gaps.mean())
    assert found.interval == pytest.approx((gaps.mean() - half, gaps.mean() + half))


@given(pairs)
def test_interval_and_p_value_are_scipys(values: list[tuple[float, float]]) -> None:
    method, baseline = zip(*values, strict=True)
    assume(np.ptp(np.subtract(method, baseline)) > 1e-9)
    found, expected = compare_pairs(method, baseline), stats.ttest_rel(method, baseline)
    interval = expected.confidence_interval(0.95)
    assert found.interval == (interval.low, interval.high)
    assert found.p_value == found.adjusted_p_value == expected.pvalue


@pytest.mark.parametrize(("scale", "verdict"), [(1, BETTER), (-1, WORSE)])
def test_difference_that_chance_hardly_makes_is_a_verdict(scale: int, verdict: str) -> None:
    gaps = [0.003, 0.004, 0.002, 0.005, 0.003]
    assert compare_pairs([0.9 + scale * gap for gap in gaps], [0.9] * 5).verdict == verdict


def test_difference_that_chance_often_makes_is_undecided() -> None:
    assert compare_pairs([0.90, 0.93, 0.91], [0.91, 0.92, 0.91]).verdict == UNDECIDED


@given(pairs)
def test_verdict_follows_the_interval(values: list[tuple[float, float]]) -> None:
    found = compare_pairs(*zip(*values, strict=True))
    assume(found.interval is not None)
    assert found.interval is not None
    low, high = found.interval
    assert found.verdict == (BETTER if low > 0 else WORSE if high < 0 else UNDECIDED)


@pytest.mark.parametrize("gap", [0.0, 0.001, -0.05])
@pytest.mark.parametrize("baseline", [[0.5, 0.5], [0.981, 0.983, 0.97], [0.1, 0.2, 0.3, 0.4, 0.5]], ids=len)
def test_differences_without_any_spread_show_nothing(gap: float, baseline: list[float]) -> None:
    """Although floats make the differences differ in the last digit."""
    found = compare_pairs([value + gap for value in baseline], baseline)
    assert found.mean == pytest.approx(gap)
    assert found == Difference(found.mean, None, None, None, UNDECIDED)


def test_one_pair_shows_nothing() -> None:
    assert compare_pairs([0.75], [0.5]) == Difference(0.25, None, None, None, UNDECIDED)


@settings(max_examples=50)
@given(pairs)
def test_better_the_one_way_is_worse_the_other_way(values: list[tuple[float, float]]) -> None:
    method, baseline = zip(*values, strict=True)
    there, back = compare_pairs(method, baseline), compare_pairs(baseline, method)
    opposite = {BETTER: WORSE, WORSE: BETTER, UNDECIDED: UNDECIDED}
    assert back.verdict == opposite[there.verdict]
    assert back.mean == -there.mean
    assert back.p_value == there.p_value
    if there.interval is not None:
        assert back.interval == pytest.approx((-there.interval[1], -there.interval[0]))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_adjustment_is_holms(p_values: list[float]) -> None:
    found = known(adjust([difference(p_value) for p_value in p_values]))
    assert [each.adjusted_p_value for each in found] == pytest.approx(holm(p_values))


def test_adjustment_of_a_known_example() -> None:
    """Of Holm's method in R: p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm")."""
    found = known(adjust([difference(p_value) for p_value in (0.01, 0.04, 0.03, 0.005)]))
    assert [each.adjusted_p_value for each in found] == pytest.approx([0.03, 0.06, 0.06, 0.02])


@given(st.lists(st.tuples(st.floats(0, 1), st.sampled_from([-0.01, 0.01])), min_size=1, max_size=12))
def test_verdict_follows_the_adjusted_p_value(values: list[tuple[float, float]]) -> None:
    for found in known(adjust([difference(p_value, mean) for p_value, mean in values])):
        assert found.adjusted_p_value is not None
        expected = UNDECIDED if found.adjusted_p_value >= 0.05 else BETTER if found.mean > 0 else WORSE
        assert found.verdict == expected


def test_verdict_alone_may_be_none_among_others() -> None:
    alone = compare_pairs(METHOD, BASELINE)
    assert alone.verdict == BETTER
    assert alone.p_value is not None
    others = [difference(0.5)] * math.ceil(0.05 / alone.p_value)
    among_others = known(adjust([alone, *others]))[0]
    assert among_others.verdict == UNDECIDED
    assert (among_others.p_value, among_others.interval) == (alone.p_value, alone.interval)


def test_only_differences_with_a_p_value_count_and_all_keep_their_places() -> None:
    nothing = difference(None)
    found = adjust([None, difference(0.02), nothing, None, difference(0.01)])
    assert [found[index] for index in (0, 2, 3)] == [None, nothing, None]
    assert [each.adjusted_p_value for each in (found[1], found[4]) if each is not None] == [0.02, 0.02]


def test_one_difference_alone_needs_no_adjustment() -> None:
    found = compare_pairs(METHOD, BASELINE)
    assert adjust([found]) == [found]
    assert adjust([]) == []


def test_what_is_adjusted_twice_is_as_adjusted_once() -> None:
    once = adjust([replace(difference(p_value)) for p_value in (0.01, 0.02, 0.9)])
    assert adjust(once) == once
