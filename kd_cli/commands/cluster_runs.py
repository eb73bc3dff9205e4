"""Runs on a cluster: which files every machine needs, and what a run is there."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kd_cli.cluster.connection import Cluster
from kd_cli.cluster.executor import ClusterExecutor
from kd_cli.cluster.shipping import SharedFile, cache_folder, describe, find
from kd_cli.commands.grid import Cell
from kd_cli.commands.job import Job, StudentConfig
from kd_cli.commands.resolve import with_student
from kd_cli.commands.runs import describe_failure, worker_for
from kd_cli.config import ConfigError, KdError
from kd_cli.distillation.methods import FROM_LABELS
from kd_cli.networks.spec import HANDED_OVER, Spec
from kd_cli.networks.trust import VARIABLE
from kd_cli.training.processes import MakeExecutor
from kd_cli.version import source_digest


@dataclass(frozen=True)
class Relocation:
    """Turns a task, whose field ``common`` is a `StudentConfig`, into the same one for the machine that it is on.

    Attributes:
        data: the prepared file of the images, in place of where they came from.
        teachers: their checkpoints.
        outputs: the teachers' outputs that are known; they lie in the machine's cache.
        trust: what the environment of the command trusts.
    """

    data: SharedFile
    teachers: tuple[SharedFile, ...]
    outputs: tuple[SharedFile, ...]
    trust: tuple[str, ...]

    @property
    def files(self) -> tuple[SharedFile, ...]:
        """All that a machine must have."""
        return (self.data, *self.teachers, *self.outputs)

    def __call__(self, task: Any) -> Any:
        """The task, with the paths of this machine.

        Raises:
            KdError: a file is gone.
        """
        common: StudentConfig = task.common
        paths = tuple(map(_locate, self.teachers))
        images = _locate(self.data)
        return replace(
            task,
            common=replace(
                common,
                data=replace(
                    common.data, dataset=str(images), image_size=None, test_fraction=None, skip_unreadable=False
                ),
                teachers=replace(common.teachers, teachers=paths, ensemble=1, cache_dir=cache_folder()),
                run=replace(common.run, trust=(*common.run.trust, *self.trust)),
            ),
        )


@dataclass(frozen=True)
class Check:
    """A task that finds out whether a machine would compute what this one computes.

    Attributes:
        common: the options of all runs.
        students: the networks that they train, and the identity of such a run on this machine.
        program: `source_digest`, likewise.
    """

    common: StudentConfig
    students: tuple[tuple[Spec, dict[str, Any]], ...]
    program: str


def check(task: Check) -> str | None:
    """Load all that runs need, which later ones find loaded; what is wrong with it, in a line."""
    if source_digest() != task.program:
        return "its kd is another one, by its code: install the same one"
    try:
        job = worker_for(task.common).job
        for student, expected in task.students:
            own = with_student(job, student, FROM_LABELS, job.training.seed).identity()
            different = [name for name, value in expected.items() if own[name] != value]
            if "source" in different:
                return f"{student.source} is another file there: bring the same one"
            if different:
                return f"its {' and '.join(different)} would be others than here: install the same versions"
    except Exception as error:
        return describe_failure(error)
    return None


def prepare_cluster(
    cluster: Cluster, common: StudentConfig, job: Job, cells: Iterable[Cell], outputs: Sequence[Path]
) -> MakeExecutor:
    """Give every machine what runs need, and find out whether they can be carried out there.

    Args:
        cluster: where.
        common: the options of all runs.
        job: what they are on this machine.
        cells: what is trained.
        outputs: files with the teachers' outputs.

    Raises:
        ConfigError: networks or images are objects of this process.
        KdError: a machine lacks something that it cannot be given.
    """
    students = tuple(dict.fromkeys(cell.student for cell in cells))
    if job.dataset.file is None or any(student.family == HANDED_OVER for student in students):
        raise ConfigError("--scheduler: objects of this process cannot go to others; give files, or leave it out")
    relocation = Relocation(
        describe(job.dataset.file),
        tuple(describe(teacher.path) for teacher in job.teachers),
        tuple(describe(path, cached=True) for path in outputs),
        tuple(filter(None, os.environ.get(VARIABLE, "").split(os.pathsep))),
    )
    cluster.bring(relocation.files)
    expected = ((each, with_student(job, each, FROM_LABELS, job.training.seed).identity()) for each in students)
    cluster.require_ready(check, relocation, Check(common, tuple(expected), source_digest()))
    return lambda _: ClusterExecutor(cluster, relocation)


def _locate(file: SharedFile) -> Path:
    path = find(file)
    if path is None:
        raise KdError(f"{file.path} is not there any more: repeat the command, which brings it again")
    return path
