"""Does a difference between runs mean anything? Paired statistics, adjusted for how many are given at once."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

ERROR_RATE = 0.05
"""The chance of one false verdict in a table."""

CONFIDENCE = 1 - ERROR_RATE

BETTER, WORSE, UNDECIDED = "better", "worse", "no difference shown"


@dataclass(frozen=True)
class Difference:
    """A mean of paired differences, and what it shows.

    Attributes:
        mean: of (method - baseline).
        interval: its 95 % Student t interval; None where there is none (one pair, or a spread of zero).
        p_value: two-sided, of the paired t test; None likewise.
        adjusted_p_value: the same, adjusted for all differences of a table (Holm 1979).
        verdict: "better" or "worse" where the adjusted p value is below 5 %, else "no difference shown".
    """

    mean: float
    interval: tuple[float, float] | None
    p_value: float | None
    adjusted_p_value: float | None
    verdict: str


def compare_pairs(method: Sequence[float], baseline: Sequence[float]) -> Difference:
    """Compare values pair by pair, by a paired t test (`scipy.stats.ttest_rel`), as if nothing else was compared.

    One pair, or differences without any spread, show nothing: a spread of zero over a few seeds is chance, or a fault.
    """
    mean = float(np.mean(np.subtract(method, baseline)))
    if len(method) < 2 or np.ptp(np.subtract(method, baseline)) < 1e-12:
        return Difference(mean, None, None, None, UNDECIDED)
    from scipy import stats  # takes a while to import

    test = stats.ttest_rel(method, baseline)
    low, high = test.confidence_interval(CONFIDENCE)
    p_value = float(test.pvalue)
    return Difference(mean, (float(low), float(high)), p_value, p_value, _judge(mean, p_value))


def adjust(differences: Sequence[Difference | None]) -> list[Difference | None]:
    """Adjust p values and verdicts for how many there are, so that one false verdict in a table has a chance of 5 %.

    Holm 1979, "A Simple Sequentially Rejective Multiple Test Procedure": the smallest of m p values is multiplied by m,
    the next by m - 1, and so on, and none may be smaller than the one before it.
    """
    ranked = sorted((each.p_value, i, each) for i, each in enumerate(differences) if each and each.p_value is not None)
    adjusted = list(differences)
    least = 0.0
    for rank, (p_value, i, each) in enumerate(ranked):
        least = max(least, min(1.0, (len(ranked) - rank) * p_value))
        adjusted[i] = replace(each, adjusted_p_value=least, verdict=_judge(each.mean, least))
    return adjusted


def _judge(mean: float, p_value: float) -> str:
    if p_value >= ERROR_RATE:
        return UNDECIDED
    return BETTER if mean > 0 else WORSE
