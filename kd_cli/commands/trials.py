"""The trials of a study, each carried out by a worker, which shows them no image of the test set."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import optuna
from optuna.pruners import BasePruner, NopPruner, SuccessiveHalvingPruner
from optuna.trial import FrozenTrial, Trial, TrialState
from torch import nn

from kd_cli.commands.grid import Cell
from kd_cli.commands.job import Job, StudentConfig
from kd_cli.commands.resolve import with_student
from kd_cli.commands.runs import describe_failure, threads_of_worker, worker_for
from kd_cli.evaluation.quality import measure_accuracy
from kd_cli.networks.classifier import compute_logits
from kd_cli.training.callbacks import History
from kd_cli.training.loop import Callback, DivergedError, Epoch, Training, fit

NUMBER, REPEAT, SECONDS, DIVERGED = "number", "repeat", "seconds", "diverged"
"""What is noted of a trial: its number in the search, which repeat of that trial it is (0: none, it is the trial), the
seconds that it trained, and how it diverged, if it did."""

Key = tuple[int, int]
"""A trial's number, and which repeat it is."""

REDUCTION = 3
"""Successive halving: of the trials that reach the end of epoch 1, 3, 9, ..., a third goes on.

By ``python -m tests.benchmarks.pruning --fraction 0.2``: 1.99 times fewer epochs than without, Hyperband 1.72 times;
the best validation accuracy of a search is 0.05 points lower, Hyperband's 0.04, with a standard error of 0.06.
"""


optuna.logging.set_verbosity(optuna.logging.WARNING)  # else it speaks of each study and trial


def key_of(trial: FrozenTrial) -> Key:
    """What tells a trial, or a repeat, from all others of its search."""
    return trial.user_attrs[NUMBER], trial.user_attrs[REPEAT]


@dataclass(frozen=True)
class TrialTask:
    """A trial, or a repeat with another seed, that is to be carried out.

    Attributes:
        cell: the student, the method, and the setting that is tried.
        proposal: the same setting as Optuna has it, with the trial's number and repeat.
        earlier: the trials that it competes with. They are those of earlier rounds, so that what becomes of a trial
            does not depend on which others are carried out beside it.
        prune: whether to stop it where it falls behind them.
        common: all options that the trials of a command have in common.
    """

    cell: Cell
    proposal: FrozenTrial
    earlier: tuple[FrozenTrial, ...]
    prune: bool
    common: StudentConfig

    @property
    def seed(self) -> int:
        """Of the training."""
        return self.common.training.seed + int(self.proposal.user_attrs[REPEAT])

    def __str__(self) -> str:
        return f"{self.cell}, seed {self.seed}"


@dataclass(frozen=True)
class TrialOutcome:
    """A trial that came to an end, with its validation accuracy after each epoch; or why it came to nothing."""

    trial: FrozenTrial | None
    error: str | None = None


def carry_out_trial(task: TrialTask) -> TrialOutcome:
    """Train and validate. What goes wrong becomes the outcome's error: other trials go on."""
    with threads_of_worker(task.common):
        try:
            return TrialOutcome(_carry_out(task))
        except Exception as error:  # one broken trial must not take the others down
            return TrialOutcome(None, describe_failure(error))


def _carry_out(task: TrialTask) -> FrozenTrial:
    study = new_study(SuccessiveHalvingPruner(1, REDUCTION) if task.prune else NopPruner())
    study.add_trials(task.earlier)
    study.enqueue_trial(task.proposal.params, task.proposal.user_attrs)
    trial = study.ask(task.proposal.distributions)
    worker = worker_for(task.common)
    cell = task.cell
    whole = with_student(worker.job, cell.student, cell.method, task.seed, cell.lr)
    job = without_test(whole)
    training, watch = worker.start(job), Watch(trial)
    try:
        fit(training, (History(_tester(job)), watch, *whole.log_to(task.common.log, "trials")))
    except DivergedError as error:
        trial.set_user_attr(DIVERGED, str(error))
        watch.pruned = True
    trial.set_user_attr(SECONDS, math.fsum(epoch.seconds for epoch in training.history))
    if watch.pruned:
        study.tell(trial, state=TrialState.PRUNED)
    else:
        study.tell(trial, training.history[-1].accuracy)
    return study.trials[-1]


def new_study(pruner: BasePruner | None = None, sampler: optuna.samplers.BaseSampler | None = None) -> optuna.Study:
    """A study in memory, of accuracies."""
    return optuna.create_study(direction="maximize", pruner=pruner, sampler=sampler or optuna.samplers.RandomSampler(0))


def without_test(job: Job) -> Job:
    """The job with its validation images in place of the test images, so that nothing can look at these."""
    validation = job.dataset.validation
    assert validation is not None  # the command has made sure
    return replace(job, dataset=replace(job.dataset, test=validation, validation=None))


def _tester(job: Job) -> Callable[[nn.Module], tuple[float, int]]:
    images, labels = job.dataset.test.images, job.dataset.test.labels
    return lambda network: measure_accuracy(compute_logits(network.eval(), images), labels)


class Watch(Callback):
    """Tells Optuna what each epoch came to, and stops a run that falls behind.

    It comes after `History`.

    Args:
        trial: the run's.
    """

    def __init__(self, trial: Trial) -> None:
        self.trial = trial
        self.pruned = False

    def on_epoch_end(self, training: Training, epoch: Epoch) -> None:
        """Report the accuracy. The last epoch is no reason to stop."""
        self.trial.report(training.history[-1].accuracy, epoch.number)
        if epoch.number < training.config.epochs and self.trial.should_prune():
            self.pruned = training.stop_requested = True
