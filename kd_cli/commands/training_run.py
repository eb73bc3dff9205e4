"""What `train-teacher` and `distill` share: a job is run, and its network saved."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from kd_cli.commands.job import Job
from kd_cli.commands.results import TrainingResult
from kd_cli.config import KdError, RunStoppedError
from kd_cli.data.dataset import Dataset
from kd_cli.evaluation.quality import measure_accuracy
from kd_cli.files import require_writable
from kd_cli.networks.checkpoint import Membership, Metadata, save_checkpoint
from kd_cli.networks.classifier import Classifier, compute_logits, count_parameters
from kd_cli.training import device
from kd_cli.training.callbacks import History, ProgressBar
from kd_cli.training.loop import Callback, DivergedError, fit
from kd_cli.training.resume import ResumeState


@dataclass(frozen=True)
class FinishedRun:
    """A run that is saved: its result, its classifier, and the state that is to be removed once all is done."""

    result: TrainingResult
    classifier: Classifier
    state: ResumeState


def run_job(
    job: Job,
    path: Path,
    resume: bool = False,
    callbacks: Sequence[Callback] = (),
    ensemble: Membership | None = None,
) -> FinishedRun:
    """Train, and save the checkpoint.

    Args:
        job: what to train.
        path: the checkpoint to write.
        resume: whether to go on from the state that an earlier run left there.
        callbacks: in place of a progress bar.
        ensemble: the teacher's place in an ensemble.

    Raises:
        RunStoppedError: the user stopped the run; says what is kept.
        KdError: the run diverged, or a file could not be written; says what is kept.
    """
    require_writable(path)
    history = History(lambda network: _test(network, job.dataset))
    state = ResumeState(path, job.identity(), history)
    training = job.start()
    if resume:
        state.restore(training)
    watching = callbacks or (ProgressBar(f"{job.role.value} {job.architecture}"),)
    try:
        fit(training, (history, state, *watching))
    except KeyboardInterrupt as error:
        raise RunStoppedError(f"stopped; {_kept(state, history, job)}") from error
    except DivergedError as error:
        state.mark_diverged()
        raise KdError(f"{error}; {_after_divergence(state, history, job, ensemble)}") from error
    except KdError as error:
        raise KdError(f"{error}; {_kept(state, history, job)}") from error
    classifier = training.network
    assert isinstance(classifier, Classifier)
    last = history.epochs[-1]
    options = job.options()
    if len(history.epochs) < job.training.epochs:
        options["stopped_after"] = len(history.epochs)
    metadata = Metadata(
        role=job.role,
        architecture=str(job.architecture),
        data=job.dataset.info,
        method=job.method.method,
        seed=job.training.seed,
        accuracy=last.accuracy,
        options=options,
        ensemble=ensemble,
    )
    save_checkpoint(path, classifier.network, metadata)
    kind, name = device.describe(job.dataset.device)
    result = TrainingResult(
        dataset=job.dataset.info.name,
        device=kind,
        device_name=name,
        role=job.role.value,
        seed=job.training.seed,
        architecture=str(job.architecture),
        parameters=count_parameters(classifier),
        method=job.method.method,
        method_options=job.method.options,
        teachers=tuple(str(teacher.path) for teacher in job.teachers),
        epochs=len(history.epochs),
        options=options,
        checkpoint=str(path),
        test_images=len(job.dataset.test),
        accuracy=last.accuracy,
        error_count=last.error_count,
        train_seconds=math.fsum(epoch.seconds for epoch in history.epochs),
        history=tuple(history.epochs),
    )
    return FinishedRun(result, classifier, state)


def _test(network: nn.Module, dataset: Dataset) -> tuple[float, int]:
    return measure_accuracy(compute_logits(network.eval(), dataset.test.images), dataset.test.labels)


def _kept(state: ResumeState, history: History, job: Job) -> str:
    """What a run that ends early leaves behind, and how to go on."""
    if not history.epochs:
        return "no epoch was complete, so nothing was kept; earlier checkpoints are as they were"
    return (
        f"{state.path} keeps {len(history.epochs)} of {job.training.epochs} epochs: "
        "repeat the command with --resume to go on from there"
    )


def _after_divergence(state: ResumeState, history: History, job: Job, ensemble: Membership | None) -> str:
    smaller = f"a smaller --lr, e.g. --lr {job.training.lr / 10:g}"
    if not history.epochs or ensemble:  # the members that are done have learnt with the larger one
        return f"start again with {smaller}"
    return (
        f"{state.path} keeps {len(history.epochs)} of {job.training.epochs} epochs: "
        f"repeat the command with --resume and {smaller}"
    )
