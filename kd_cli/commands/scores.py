"""How good trials were, on the scale that the model of a search works with."""

import math
from collections.abc import Sequence
from statistics import fmean

from optuna.trial import FrozenTrial, TrialState

from kd_cli.commands.trials import DIVERGED


def accuracy_of(trial: FrozenTrial) -> float:
    """The validation accuracy after the last epoch of a trial that was not stopped."""
    assert trial.value is not None
    return trial.value


def estimate_scores(trials: Sequence[FrozenTrial], images: int) -> list[float]:
    """What trials came to, or would have come to, for a model of them: minus the logarithm of the share of errors.

    On that scale trials near the best one stay apart, and hopeless ones do not. A trial that was stopped gets what it
    would have gained, on average of those that went on.

    Args:
        trials: some that came to an end.
        images: how many validation images there were.
    """

    def score(accuracy: float) -> float:
        return -math.log(max(1 - accuracy, 0.5 / images))

    complete = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    scores = []
    for trial in trials:
        if trial.state is TrialState.COMPLETE:
            scores.append(score(accuracy_of(trial)))
        elif DIVERGED in trial.user_attrs or trial.last_step is None:
            scores.append(0.0)
        else:
            epoch = trial.last_step
            gains = [score(accuracy_of(other)) - score(other.intermediate_values[epoch]) for other in complete]
            scores.append(score(trial.intermediate_values[epoch]) + (fmean(gains) if gains else 0.0))
    return scores
