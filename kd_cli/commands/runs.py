"""The runs of a comparison, each carried out by a worker."""

import contextlib
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

from torch import Tensor, nn

from kd_cli.commands.grid import Cell
from kd_cli.commands.job import Job, StudentConfig
from kd_cli.commands.resolve import resolve_student, with_student
from kd_cli.commands.results import RunMeasures
from kd_cli.config import KdError
from kd_cli.distillation.teacher_outputs import TeacherOutputs, average_logits
from kd_cli.evaluation.fault import find_fault
from kd_cli.evaluation.quality import measure_accuracy, measure_quality
from kd_cli.networks.classifier import compute_logits
from kd_cli.training.callbacks import ChooseEpoch, History, KeepEpochs
from kd_cli.training.device import use_threads
from kd_cli.training.loop import Callback, Epoch, Training, fit


@dataclass(frozen=True)
class Run:
    """One training run of a comparison: a cell with a seed, and all options that the runs have in common."""

    cell: Cell
    seed: int
    common: StudentConfig

    def __str__(self) -> str:
        return f"{self.cell}, seed {self.seed}"


@dataclass(frozen=True)
class RunOutcome:
    """What a run came to on the test set, or why it came to nothing."""

    measures: RunMeasures | None
    error: str | None = None


def carry_out_run(run: Run) -> RunOutcome:
    """Train and test. What goes wrong becomes the outcome's error: other runs go on."""
    with threads_of_worker(run.common):
        try:
            return RunOutcome(worker_for(run.common).measure(run))
        except Exception as error:  # one broken run must not take the others down
            return RunOutcome(None, describe_failure(error))


def threads_of_worker(common: StudentConfig) -> contextlib.AbstractContextManager[None]:
    """Compute with one thread, as there is a worker for each core, or with as many as asked for."""
    return use_threads(common.training.threads or 1)


def describe_failure(error: Exception) -> str:
    """What went wrong, in one line; what nobody expected with the name of its kind."""
    return str(error) if isinstance(error, KdError) else f"{type(error).__name__}: {' '.join(str(error).split())}"


def share_outputs(job: Job, cells: Iterable[Cell]) -> list[Path]:
    """Compute the teachers' outputs that workers would all compute, where they are worth keeping on disk; the files."""
    if job.labels.train_fraction < 1:  # each seed has images of its own
        return []
    files: dict[Path, None] = {}
    for cell in cells:
        if cell.method.is_baseline:
            continue
        own = with_student(job, cell.student, cell.method, job.training.seed, cell.lr)
        outputs = own.compute_outputs()
        if outputs.worth_keeping:
            with contextlib.suppress(KdError):  # the cell's runs say what is wrong
                own.start(outputs)
            files |= dict.fromkeys(outputs.files)
    return list(files)


class Worker:
    """Data, teachers and their outputs, kept from one run to the next."""

    def __init__(self, common: StudentConfig) -> None:
        self.job = resolve_student(common)
        self._outputs: tuple[tuple[int, int], TeacherOutputs] | None = None

    @cached_property
    def teacher_logits(self) -> Tensor:
        """The teachers' averaged logits for the test images."""
        classifiers = [teacher.classifier for teacher in self.job.teachers]
        return self._test_logits(lambda pixels: average_logits(classifiers, pixels, 1.0))

    def measure(self, run: Run) -> RunMeasures:
        """Train a student, and measure it on the test set.

        Raises:
            KdError: the run diverged, or its parts do not fit together.
        """
        job = with_student(self.job, run.cell.student, run.cell.method, run.seed, run.cell.lr)
        training = self.start(job)
        epochs, kept = self._train(training, job.log_to(run.common.log))
        quality = measure_quality(
            self._test_logits(training.result.eval()), job.dataset.test.labels, self.teacher_logits
        )
        assert quality.agreement is not None  # there is a teacher
        return RunMeasures(
            seed=run.seed,
            accuracy=quality.accuracy,
            error_count=quality.error_count,
            agreement=quality.agreement,
            nll=quality.nll,
            ece=quality.ece,
            train_seconds=math.fsum(epoch.seconds for epoch in epochs),
            fault=find_fault(
                training.first_loss,
                kept.loss,
                quality.accuracy,
                job.dataset.test.labels,
                training.config.lr,
            ),
        )

    def start(self, job: Job) -> Training:
        """A fresh run of a job with this worker's images, which looks the teachers' outputs up where they are known."""
        return job.start(None if job.method.is_baseline else self._outputs_for(job))

    def _train(self, training: Training, logs: Sequence[Callback]) -> tuple[list[Epoch], Epoch]:
        """Train to the end, or to the epoch that the validation images choose; all epochs, and the one that is kept."""
        config, watched = training.config, self.job.dataset.validation or self.job.dataset.test
        keep = KeepEpochs()
        callbacks: tuple[Callback, ...] = (keep,)
        if config.chooses_epoch or logs:

            def test(network: nn.Module) -> tuple[float, int]:
                return measure_accuracy(compute_logits(network.eval(), watched.images), watched.labels)

            callbacks += (History(test), *([ChooseEpoch(config.patience)] if config.chooses_epoch else []), *logs)
        fit(training, callbacks)
        training.use_best()
        return keep.epochs, keep.epochs[training.best.number - 1 if training.best else -1]

    def _outputs_for(self, job: Job) -> TeacherOutputs:
        """The teachers' outputs; for another choice of labelled images with each seed, if only some have labels."""
        key = (0 if job.labels.train_fraction == 1 else job.training.seed, job.teacher_views)
        if self._outputs is None or self._outputs[0] != key:
            self._outputs = key, job.compute_outputs(quiet=True)
        return self._outputs[1]

    def _test_logits(self, classifier: Callable[[Tensor], Tensor]) -> Tensor:
        return compute_logits(classifier, self.job.dataset.test.images)


@lru_cache(maxsize=1)
def worker_for(common: StudentConfig) -> Worker:
    """This process's own."""
    return Worker(common)


def forget_worker() -> None:
    """Let go of this process's data and teachers, whose files may have changed before the next comparison."""
    worker_for.cache_clear()
