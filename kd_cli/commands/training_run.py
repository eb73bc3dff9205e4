"""What `train-teacher` and `distill` share: a job is run, and its network saved."""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from kd_cli.commands.group import require_same_run, require_same_weights, warn_if_too_small
from kd_cli.commands.job import Job, heading
from kd_cli.commands.results import TrainingResult
from kd_cli.config import ConfigError, KdError, LogConfig, OutputConfig, RunStoppedError
from kd_cli.data.augmentation import augment
from kd_cli.data.batches import BatchSource
from kd_cli.data.dataset import Split
from kd_cli.data.labels import NO_LABEL
from kd_cli.distillation.objective import describe_outputs
from kd_cli.evaluation.confidence import fit_confidence
from kd_cli.evaluation.fault import find_fault, smaller_lr
from kd_cli.evaluation.quality import measure_accuracy
from kd_cli.files import require_output
from kd_cli.networks.checkpoint import is_checkpoint, read_own_weights, save_checkpoint
from kd_cli.networks.classifier import Classifier, compute_logits, count_parameters
from kd_cli.networks.metadata import Confidence, Membership, Metadata
from kd_cli.training.busy import BusyMachine
from kd_cli.training.callbacks import ChooseEpoch, CompileTime, History, ProgressBar
from kd_cli.training.group import GROUP_OF_ONE, Group
from kd_cli.training.loop import Callback, DivergedError, fit
from kd_cli.training.resume import SUFFIX, ResumeState, is_state

log = logging.getLogger(__name__)

FIT_IMAGES = 5000
"""Images that confidences are fitted to, at most: 0.06 s of the default job's 10."""


@dataclass(frozen=True)
class FinishedRun:
    """A run that is saved: its result, its classifier, and the state that is to be removed once all is done."""

    result: TrainingResult
    classifier: Classifier
    state: ResumeState


def run_job(
    job: Job,
    path: Path,
    output: OutputConfig = OutputConfig(),
    force: bool = False,
    callbacks: Sequence[Callback] = (),
    ensemble: Membership | None = None,
    logs: LogConfig = LogConfig(),
    group: Group = GROUP_OF_ONE,
) -> FinishedRun:
    """Train, and save the checkpoint.

    Of several processes, the first one reads and writes files and shows progress.

    Args:
        job: what to train.
        path: the checkpoint to write.
        output: whether to go on from the state that an earlier run left there.
        force: whether to replace a file of somebody else's, and to save a network that learnt nothing.
        callbacks: in place of a progress bar.
        ensemble: the teacher's place in an ensemble.
        logs: where to write it down while it is trained.
        group: the processes that train together.

    Raises:
        RunStoppedError: the user stopped the run; says what is kept.
        KdError: the run diverged or learnt nothing, or a file could not be written; says what is kept.
    """
    resume = output.resume or group.restarts > 0
    if group.is_first:
        require_checkpoint_output(job, path, force)
    require_same_run(group, job.identity(), {"resume": resume, "force": force, "ensemble": ensemble})
    state = ResumeState(path, job.identity(), group)
    if group.is_first and not resume:  # else reading it says what is wrong
        require_output(state.path, is_state, job.inputs(), force)
    training = job.start(group=group)
    warn_if_too_small(training)
    if resume:
        state.restore(training)
    elif state.path.exists():
        log.warning("starting anew: %s of an interrupted run is replaced (--resume would go on from it)", state.path)
    watched = job.dataset.validation or job.dataset.test
    choosing = (ChooseEpoch(job.training.patience),) if job.training.chooses_epoch else ()
    watching = (*(callbacks or _watch(job)), *job.log_to(logs))
    history = History(lambda network: _test(network, watched, group))
    try:
        fit(training, (history, *choosing, state, *(watching if group.is_first else ())))
    except KeyboardInterrupt as error:
        raise RunStoppedError(f"stopped; {_kept(state, job, ensemble)}") from error
    except DivergedError as error:
        state.mark_diverged()
        raise KdError(f"{error}; {_after_divergence(state, job, ensemble)}") from error
    classifier = training.result
    assert isinstance(classifier, Classifier)
    require_same_weights(group, classifier)
    options = job.options()
    if group.size > 1:
        options["processes"] = group.size
    if len(training.history) < job.training.epochs:
        options["stopped_after"] = len(training.history)
    accuracy, errors = training.history[-1].accuracy, training.history[-1].error_count
    if training.best is not None:
        training.use_best()
        options["kept_epoch"] = training.best.number
    if watched is not job.dataset.test:
        accuracy, errors = _test(classifier, job.dataset.test, group)
    metadata = Metadata(
        role=job.role,
        architecture=str(job.architecture),
        data=job.dataset.info,
        method=job.method.method,
        seed=job.training.seed,
        accuracy=accuracy,
        options=options,
        ensemble=ensemble,
        source=job.source,
        confidence=_fit_confidence(classifier, training.batches, job),
    )
    kept = training.history[training.best.number - 1 if training.best else -1]
    fault = find_fault(training.first_loss, kept.loss, kept.accuracy, watched.labels, job.training.lr)
    if fault is not None and not force:
        rejected = _rejected_path(path)
        _save(rejected, classifier, metadata, _kept(state, job, ensemble), group)
        state.remove()
        raise KdError(f"{fault}, or --force; kept as {rejected}, and not as {path}")
    if output.output is not None and is_checkpoint(path):
        log.warning("replacing %s, %s", path, _name_checkpoint(path))
    _save(path, classifier, metadata, _kept(state, job, ensemble), group)
    if ensemble:
        state.keep(training)  # so that --resume need not train this member again
    result = TrainingResult(
        **vars(heading(job.dataset, processes=group.size)),
        role=job.role.value,
        seed=job.training.seed,
        architecture=str(job.architecture),
        parameters=count_parameters(classifier),
        method=job.method.method,
        method_options=job.method.settings,
        teachers=tuple(str(teacher.path) for teacher in job.teachers),
        teacher_outputs=describe_outputs(training.objective),
        epochs=len(training.history),
        options=options,
        checkpoint=str(path),
        test_images=len(job.dataset.test),
        accuracy=accuracy,
        error_count=errors,
        fault=fault,
        train_seconds=math.fsum(epoch.seconds for epoch in training.history),
        history=tuple(training.history),
        history_of="test" if watched is job.dataset.test else "validation",
        kept_epoch=training.best.number if training.best else None,
    )
    return FinishedRun(result, classifier, state)


def _watch(job: Job) -> tuple[Callback, ...]:
    """What tells the user how the run goes."""
    bar = ProgressBar(f"{job.role.value} {job.architecture}")
    return (bar, BusyMachine(), *([CompileTime()] if job.training.compile else []))


def _test(network: nn.Module, split: Split, group: Group) -> tuple[float, int]:
    own = compute_logits(network.eval(), split.images[group.of(len(split))])
    return measure_accuracy(group.gather(own, len(split)), split.labels)


def _fit_confidence(classifier: Classifier, batches: BatchSource, job: Job) -> Confidence:
    """Fit to validation images, or else to training images that are augmented once more."""
    random = torch.Generator().manual_seed(job.training.seed)
    split, presets = (job.dataset.validation, ()) if job.dataset.validation else (batches.split, batches.presets)
    labelled = (split.labels != NO_LABEL).nonzero().flatten()
    rows = labelled[torch.randperm(len(labelled), generator=random)[:FIT_IMAGES].to(labelled.device)]
    images = augment(split.images[rows], presets, random) if presets else split.images[rows]
    seen_before = split is batches.split and not presets
    return fit_confidence(compute_logits(classifier, images), split.labels[rows], seen_before)


def require_checkpoint_output(job: Job, path: Path, force: bool) -> None:
    """Find out before the work that its checkpoint could not, or should not, be written.

    Raises:
        ConfigError: the name is one that the states of interrupted runs have.
        KdError: as `files.require_output`.
    """
    if path.suffix == SUFFIX:
        raise ConfigError(f"--output {path}: {SUFFIX} files are states of interrupted runs; choose another name")
    require_output(path, is_checkpoint, job.inputs(), force)
    require_output(_rejected_path(path), is_checkpoint, job.inputs(), force)


def _rejected_path(path: Path) -> Path:
    """Where a network is saved that learnt nothing."""
    return path.with_name(f"{path.stem}.rejected.safetensors")


def _save(path: Path, classifier: Classifier, metadata: Metadata, kept: str, group: Group) -> None:
    if not group.is_first:
        return
    try:
        save_checkpoint(path, classifier.network, metadata)
    except KdError as error:
        raise KdError(f"{error}; {kept}") from error


def _name_checkpoint(path: Path) -> str:
    """What is in a checkpoint that is about to be replaced."""
    try:
        metadata = read_own_weights(path)[0]
    except KdError:
        return "a damaged checkpoint"
    return f"the {metadata.role.value} {metadata.architecture} on {metadata.data.name} ({metadata.accuracy:.2%})"


def _kept(state: ResumeState, job: Job, ensemble: Membership | None) -> str:
    """What a run that ends early leaves behind, and how to go on."""
    go_on = "repeat the command with --resume to go on from there"
    if state.epochs_kept:
        return f"{state.path} keeps {state.epochs_kept} of {job.training.epochs} epochs: {go_on}"
    if ensemble and ensemble.number > 1:
        return f"{ensemble.number - 1} of {ensemble.size} members are saved: {go_on}"
    return "no epoch was kept; earlier checkpoints are as they were"


def _after_divergence(state: ResumeState, job: Job, ensemble: Membership | None) -> str:
    smaller = smaller_lr(job.training.lr)
    if not state.epochs_kept or ensemble:  # the members that are done have learnt with the larger one
        return f"start again with {smaller}"
    return (
        f"{state.path} keeps {state.epochs_kept} of {job.training.epochs} epochs: "
        f"repeat the command with --resume and {smaller}"
    )
