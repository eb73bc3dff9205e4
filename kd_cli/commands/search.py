"""The search for a method's best setting: what is tried next, and what is kept of it.

Trials come in rounds. What a round tries, and which of its trials are stopped early, depends on the trials of earlier
rounds alone: not on how many are carried out at a time, or in which order they end. A search that was killed goes on
with the trials that are missing, and ends where it would have ended.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from kd_cli.commands.grid import Cell
from kd_cli.config import KdError
from kd_cli.distillation.methods import LEARNING_RATES, WEIGHTS, Range
from kd_cli.files import require_regular

try:
    import optuna
except ImportError as error:
    raise KdError("kd tune needs Optuna: pip install 'kd-cli[tune]'") from error
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.exceptions import OptunaError
from optuna.samplers import BaseSampler, GPSampler, RandomSampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState, create_trial

from kd_cli.commands.trials import DIVERGED, NUMBER, new_study

ROUND = 4
"""Trials of a method that are proposed together, so that they may be carried out side by side."""

RANDOM_TRIALS = 8
"""Trials before the Gaussian process is asked: it has too little to learn from."""

DIGITS = 3
"""Significant digits of what is tried: enough to tell settings apart, and few enough to read."""


class Search:
    """The search for one method's setting, kept in a journal.

    Args:
        cell: the student and the method with a learning rate and options, which are tried first.
        path: the journal.
        trials: how many there are in all.
        seed: of what is tried.
        images: how many validation images there are.

    Attributes:
        done: the trials that came to an end, by number.
        failed: the numbers of those that came to nothing; they are not kept.

    Raises:
        KdError: the journal cannot be read or written, or is damaged.
    """

    def __init__(self, cell: Cell, path: Path, trials: int, seed: int, images: int) -> None:
        self.cell, self.path, self.trials, self.seed, self.images = cell, path, trials, seed, images
        self.ranges: dict[str, Range] = {"lr": LEARNING_RATES, **cell.method.row.ranges}
        self.distributions: dict[str, BaseDistribution] = {
            name: FloatDistribution(each.low, each.high, log=each.log) for name, each in self.ranges.items()
        }
        self.done: dict[int, FrozenTrial] = {}
        self.failed: set[int] = set()
        self._proposed = 0
        try:
            self._journal = _open_journal(path)
            for trial in self._journal.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED)):
                self.done.setdefault(trial.user_attrs[NUMBER], trial)
        except OSError as error:
            raise KdError(f"cannot write {path}: {error.strerror or error}; choose another --results-dir") from error
        except (OptunaError, ValueError, LookupError, TypeError, AttributeError, AssertionError) as error:
            raise KdError(f"{path} is damaged: remove it, or use --fresh") from error

    def next_round(self) -> list[FrozenTrial]:
        """The trials to carry out next; none before the last ones have come to an end, and at the end of the search."""
        while self._proposed < self.trials and self._is_over(self._proposed):
            start, self._proposed = self._proposed, min(self._proposed + ROUND, self.trials)
            if not self._is_over(self._proposed):
                return self._propose(start, self._proposed)
        return []

    def keep(self, trial: FrozenTrial) -> None:
        """Write down a trial that came to an end.

        Raises:
            KdError: the journal cannot be written.
        """
        try:
            self._journal.add_trial(trial)
        except OSError as error:
            raise KdError(f"cannot write {self.path}: {error.strerror or error}; free some space") from error
        self.done[trial.user_attrs[NUMBER]] = trial

    def before(self, number: int) -> list[FrozenTrial]:
        """The trials that came to an end, in the order of their numbers, that are in rounds before this one's."""
        return [self.done[each] for each in sorted(self.done) if each < number - number % ROUND]

    @property
    def counted(self) -> list[FrozenTrial]:
        """The trials that came to an end, but for those that a longer search has left behind."""
        return [self.done[each] for each in sorted(self.done) if each < self.trials]

    @property
    def best(self) -> FrozenTrial | None:
        """The trial with the best validation accuracy after its last epoch, the first of equals; None without any."""
        complete = [trial for trial in self.counted if trial.state is TrialState.COMPLETE]
        return max(complete, key=accuracy_of, default=None)

    def cell_of(self, trial: FrozenTrial) -> Cell:
        """What a trial tries."""
        options: dict[str, Any] = dict(trial.params)
        lr = options.pop("lr")
        return replace(self.cell, method=replace(self.cell.method, **options), lr=lr)

    def _is_over(self, end: int) -> bool:
        return all(number in self.done or number in self.failed for number in range(end))

    def _propose(self, start: int, end: int) -> list[FrozenTrial]:
        """The trials of a round that are not done. All are proposed: each keeps away from the ones before it."""
        earlier = self.before(start)
        known = [
            create_trial(params=trial.params, distributions=self.distributions, value=score)
            for trial, score in zip(earlier, estimate_scores(earlier, self.images), strict=True)
        ]
        for number in range(start, end):
            known.append(
                create_trial(
                    state=TrialState.RUNNING,
                    params=self._choose(number, known),
                    distributions=self.distributions,
                    user_attrs={NUMBER: number},
                )
            )
        return [trial for trial in known[len(earlier) :] if trial.user_attrs[NUMBER] not in self.done]

    def _choose(self, number: int, known: Sequence[FrozenTrial]) -> dict[str, float]:
        """First the setting without tuning, then the one in which the teacher counts least; then what is promising."""
        own = self.cell.options
        untuned = {name: float(np.clip(own[name], each.low, each.high)) for name, each in self.ranges.items()}
        weakest = {name: self.ranges[name].low for name in WEIGHTS if name in self.ranges}
        if number == 0:
            return untuned
        if number == 1 and weakest:
            return untuned | weakest
        seed = int(np.random.SeedSequence([self.seed, number]).generate_state(1)[0])
        chosen = self._sample(GPSampler(seed=seed, n_startup_trials=RANDOM_TRIALS), known)
        if chosen in [trial.params for trial in known]:  # it would come to the same
            chosen = self._sample(RandomSampler(seed), known)
        return chosen

    def _sample(self, sampler: BaseSampler, known: Sequence[FrozenTrial]) -> dict[str, float]:
        study = new_study(sampler=sampler)
        study.add_trials(known)
        params = study.ask(self.distributions).params
        return {name: float(f"{value:.{DIGITS}g}") for name, value in params.items()}


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


class _NoLock(JournalFileOpenLock):
    """In place of a lock file, which would outlive a command that is killed.

    Only the command writes, not its workers, and it adds a whole line at a time.
    """

    def acquire(self) -> bool:
        """Nothing to wait for."""
        return True

    def release(self) -> None:
        """Nothing to let go of."""


def _open_journal(path: Path) -> optuna.Study:
    require_regular(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _drop_torn_line(path)
    storage = JournalStorage(JournalFileBackend(str(path), _NoLock(str(path))))
    return optuna.create_study(storage=storage, study_name=path.stem, direction="maximize", load_if_exists=True)


def _drop_torn_line(path: Path) -> None:
    """Take away what a process that was killed has left of its last line: Optuna would append to it."""
    if path.exists():
        content = path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            with path.open("r+b") as file:
                file.truncate(whole)
