"""``kd train-teacher``: train a network on labels, or several to be averaged."""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from kd_cli.commands.checkpoints import member_path
from kd_cli.commands.group import joined
from kd_cli.commands.job import Job
from kd_cli.commands.resolve import resolve_teacher
from kd_cli.commands.results import EnsembleResult, TrainingResult
from kd_cli.commands.training_run import FinishedRun, require_checkpoint_output, run_job
from kd_cli.config import DataConfig, DeviceConfig, LogConfig, OutputConfig, TrainingConfig
from kd_cli.distillation.teacher_outputs import average_logits
from kd_cli.evaluation.quality import measure_accuracy
from kd_cli.files import require_no_input
from kd_cli.networks.checkpoint import checkpoint_path
from kd_cli.networks.classifier import compute_logits
from kd_cli.networks.metadata import Membership
from kd_cli.networks.spec import Spec
from kd_cli.training.epoch_result import EpochResult
from kd_cli.training.group import Group


def train_teacher(
    architecture: Spec,
    data: DataConfig = DataConfig(),
    training: TrainingConfig = TrainingConfig(),
    run: DeviceConfig = DeviceConfig(),
    output: OutputConfig = OutputConfig(),
    ensemble: int = 1,
    force: bool = False,
    init: Path | None = None,
    reports: Sequence[Path] = (),
    logs: LogConfig = LogConfig(),
) -> TrainingResult:
    """Train a network on labels alone and save it as the teacher; or several, with seeds that follow each other.

    Nothing is trained if one of ``reports``, files that the result will be written to, is a file that is read.

    Raises:
        KdError: something is not there, does not fit, or cannot be written; or the run diverged or was stopped.
    """
    with joined(training, run) as group:
        with group.first_of_machine_first():  # it prepares the images for the others
            job = resolve_teacher(architecture, data, training, run, ensemble, init)
        require_no_input(reports, job.inputs())
        path = output.output or checkpoint_path(run.models_dir, job.dataset.info.name, job.role)
        if ensemble > 1:
            return _train_ensemble(job, path, output, ensemble, force, logs, group)
        finished = run_job(job, path, output, force, logs=logs, group=group)
        finished.state.remove()
        return finished.result


def _train_ensemble(
    job: Job, path: Path, output: OutputConfig, ensemble: int, force: bool, logs: LogConfig, group: Group
) -> EnsembleResult:
    require_checkpoint_output(job, path, force)  # without a name, it gives the members none
    paths = [member_path(path, number) for number in range(1, ensemble + 1)]
    for each in paths[1:]:
        require_checkpoint_output(job, each, force)
    identifier = hashlib.sha256(json.dumps([job.identity(), ensemble]).encode()).hexdigest()[:16]
    members = []
    for number, each in enumerate(paths, start=1):
        member = replace(job, training=replace(job.training, seed=job.training.seed + number - 1))
        place = Membership(identifier, number, ensemble)
        members.append(run_job(member, each, output, force, ensemble=place, logs=logs, group=group))
    for finished in members:
        finished.state.remove()
    return _describe_ensemble(job, members)


def _describe_ensemble(job: Job, members: Sequence[FinishedRun]) -> EnsembleResult:
    classifiers = [member.classifier for member in members]
    test = job.dataset.test
    logits = compute_logits(lambda pixels: average_logits(classifiers, pixels, 1.0), test.images)
    accuracy, errors = measure_accuracy(logits, test.labels)
    results = [member.result for member in members]
    together = zip(*(each.history for each in results), strict=False)  # patience may end some earlier than others
    own = {
        "parameters": sum(each.parameters for each in results),
        "accuracy": accuracy,
        "error_count": errors,
        "train_seconds": math.fsum(each.train_seconds for each in results),
        "history": tuple(map(_mean_epoch, together)),
        "kept_epoch": None,
        "fault": None,
    }
    return EnsembleResult(**vars(results[0]) | own, ensemble=len(results), members=tuple(results))


def _mean_epoch(epochs: Sequence[EpochResult]) -> EpochResult:
    count = len(epochs)
    return EpochResult(
        epoch=epochs[0].epoch,
        loss=math.fsum(each.loss for each in epochs) / count,
        accuracy=math.fsum(each.accuracy for each in epochs) / count,
        error_count=round(sum(each.error_count for each in epochs) / count),
        seconds=math.fsum(each.seconds for each in epochs),
    )
