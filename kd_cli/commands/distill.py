"""``kd distill``: train a student with a method, from one or several teachers."""

from collections.abc import Sequence
from pathlib import Path

from kd_cli.commands.group import joined
from kd_cli.commands.job import StudentConfig
from kd_cli.commands.resolve import resolve_student
from kd_cli.commands.results import TrainingResult
from kd_cli.commands.training_run import run_job
from kd_cli.config import OutputConfig
from kd_cli.files import require_no_input
from kd_cli.networks.checkpoint import checkpoint_path
from kd_cli.training.loop import Callback


def distill(
    config: StudentConfig,
    output: OutputConfig = OutputConfig(),
    force: bool = False,
    callbacks: Sequence[Callback] = (),
    reports: Sequence[Path] = (),
) -> TrainingResult:
    """Train a student and save it.

    Args:
        config: what to train, with which method, from which teachers and images.
        output: where to save it, and whether to go on from an earlier run.
        force: whether to replace a file of somebody else's, and to save a network that learnt nothing.
        callbacks: in place of a progress bar.
        reports: files that the result will be written to; none of them may be one that is read.

    Raises:
        KdError: something is not there, does not fit, or cannot be written; or the run diverged or was stopped.
    """
    with joined(config.training, config.run) as group:
        with group.first_of_machine_first():  # it prepares the images for the others
            job = resolve_student(config, needs_teacher=False)
        require_no_input(reports, job.inputs())
        path = output.output or checkpoint_path(config.run.models_dir, job.dataset.info.name, job.role)
        finished = run_job(job, path, output, force, callbacks, logs=config.log, group=group)
        finished.state.remove()
        return finished.result
