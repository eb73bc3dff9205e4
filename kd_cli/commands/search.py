"""The search for a method's best setting: what is tried next, and what is kept of it.

Trials come in rounds. What a round tries, and which of its trials are stopped early, depends on the trials of earlier
rounds alone: not on how many are carried out at a time, or in which order they end. In the end the settings of a few
trials, the finalists, are trained with further seeds. A search that was killed goes on with what is missing, and ends
where it would have ended.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from kd_cli.commands.grid import Cell
from kd_cli.config import KdError
from kd_cli.distillation.methods import LEARNING_RATES, WEIGHTS, Range

try:
    from optuna.distributions import BaseDistribution, FloatDistribution
except ImportError as error:
    raise KdError("kd tune needs Optuna: pip install 'kd-cli[tune]'") from error
from optuna.samplers import BaseSampler, GPSampler, RandomSampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from kd_cli.commands.journal import Journal
from kd_cli.commands.scores import accuracy_of, estimate_scores
from kd_cli.commands.trials import NUMBER, REPEAT, Key, key_of, new_study
from kd_cli.commands.tune_config import FINALISTS, REPEATS

ROUND = 4
"""Trials of a method that are proposed together, so that they may be carried out side by side."""

WEAKEST = 1
"""The number of the trial in which the teacher counts least. It is in the first round, and so is not pruned."""

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
        done: the trials and repeats that came to an end, by key.
        failed: the keys of those that came to nothing; they are not kept.

    Raises:
        KdError: the journal cannot be read or written, or is damaged.
    """

    def __init__(self, cell: Cell, path: Path, trials: int, seed: int, images: int) -> None:
        self.cell, self.path, self.trials, self.seed, self.images = cell, path, trials, seed, images
        self.ranges: dict[str, Range] = {"lr": LEARNING_RATES, **cell.method.row.ranges}
        self.distributions: dict[str, BaseDistribution] = {
            name: FloatDistribution(each.low, each.high, log=each.log) for name, each in self.ranges.items()
        }
        self.failed: set[Key] = set()
        self._proposed = 0
        self._repeats_proposed = False
        self._journal = Journal(path)
        self.done = self._journal.done
        self._weakest = {name: self.ranges[name].low for name in WEIGHTS if name in self.ranges}

    def next_round(self) -> list[FrozenTrial]:
        """The trials to carry out next, or the repeats; none before the last ones have come to an end."""
        while self._proposed < self.trials and self._is_over(self._proposed):
            start, self._proposed = self._proposed, min(self._proposed + ROUND, self.trials)
            if not self._is_over(self._proposed):
                return self._propose(start, self._proposed)
        if self._is_over(self.trials) and not self._repeats_proposed:
            self._repeats_proposed = True
            return self._propose_repeats()
        return []

    def keep(self, trial: FrozenTrial) -> None:
        """Write down a trial, or a repeat, that came to an end.

        Raises:
            KdError: the journal cannot be written.
        """
        self._journal.keep(trial)

    def before(self, number: int) -> list[FrozenTrial]:
        """The trials that came to an end, in the order of their numbers, that are in rounds before this one's."""
        return [trial for trial in self.counted if trial.user_attrs[NUMBER] < number - number % ROUND]

    def rivals_of(self, proposal: FrozenTrial) -> list[FrozenTrial]:
        """What it competes with: for a trial those of earlier rounds. A repeat has no rivals, so nothing stops it."""
        return [] if proposal.user_attrs[REPEAT] else self.before(proposal.user_attrs[NUMBER])

    @property
    def counted(self) -> list[FrozenTrial]:
        """The trials that came to an end, but for those that a longer search has left behind."""
        return [self.done[number, 0] for number in range(self.trials) if (number, 0) in self.done]

    @property
    def finalists(self) -> list[FrozenTrial]:
        """The trials whose settings are trained with further seeds, as many for every method: the best ones.

        The one in which the teacher counts least is always among them. It is nearly the baseline, and a setting that
        does harm must not win over it by one lucky seed.
        """

        def rank(trial: FrozenTrial) -> tuple[bool, float]:
            always = bool(self._weakest) and trial.user_attrs[NUMBER] == WEAKEST
            return always, accuracy_of(trial)

        complete = [trial for trial in self.counted if trial.state is TrialState.COMPLETE]
        return sorted(complete, key=rank, reverse=True)[:FINALISTS]

    def repeats_of(self, trial: FrozenTrial) -> list[FrozenTrial]:
        """The same setting with further seeds, as far as these came to an end."""
        keys = [(trial.user_attrs[NUMBER], repeat) for repeat in range(1, 1 + REPEATS)]
        return [self.done[key] for key in keys if key in self.done]

    def accuracies_of(self, trial: FrozenTrial) -> list[float]:
        """The validation accuracies of a trial and its repeats, but for those that diverged."""
        runs = [trial, *self.repeats_of(trial)]
        return [accuracy_of(each) for each in runs if each.state is TrialState.COMPLETE]

    @property
    def best(self) -> FrozenTrial | None:
        """The finalist with the best mean validation accuracy, of those that came to an end with most seeds."""

        def quality(trial: FrozenTrial) -> tuple[int, float]:
            accuracies = self.accuracies_of(trial)
            return len(accuracies), fmean(accuracies)

        return max(self.finalists, key=quality, default=None)

    @property
    def carried_out(self) -> list[FrozenTrial]:
        """The trials that count, and the repeats of the finalists."""
        return [*self.counted, *(repeat for trial in self.finalists for repeat in self.repeats_of(trial))]

    @property
    def missing(self) -> int:
        """How many trials and repeats are still to come, at most: there may be fewer finalists than places."""
        if self._is_over(self.trials):
            return len(self._propose_repeats())
        return self.trials - len(self.counted) + min(FINALISTS, self.trials) * REPEATS

    def cell_of(self, trial: FrozenTrial) -> Cell:
        """What a trial tries."""
        options: dict[str, Any] = dict(trial.params)
        lr = options.pop("lr")
        return replace(self.cell, method=replace(self.cell.method, **options), lr=lr)

    def _is_over(self, end: int) -> bool:
        keys = [(number, 0) for number in range(end)]
        return all(key in self.done or key in self.failed for key in keys)

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
                    user_attrs={NUMBER: number, REPEAT: 0},
                )
            )
        return [trial for trial in known[len(earlier) :] if key_of(trial) not in self.done]

    def _propose_repeats(self) -> list[FrozenTrial]:
        """The repeats of the finalists that are not done."""
        repeats = [
            create_trial(
                state=TrialState.RUNNING,
                params=trial.params,
                distributions=self.distributions,
                user_attrs={NUMBER: trial.user_attrs[NUMBER], REPEAT: repeat},
            )
            for trial in self.finalists
            for repeat in range(1, 1 + REPEATS)
        ]
        return [repeat for repeat in repeats if key_of(repeat) not in self.done]

    def _choose(self, number: int, known: Sequence[FrozenTrial]) -> dict[str, float]:
        """First the setting without tuning, then the one in which the teacher counts least; then what is promising."""
        own = self.cell.options
        untuned = {name: float(np.clip(own[name], each.low, each.high)) for name, each in self.ranges.items()}
        if number == 0:
            return untuned
        if number == WEAKEST and self._weakest:
            return untuned | self._weakest
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
