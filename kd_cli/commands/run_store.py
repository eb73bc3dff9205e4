"""Where the finished runs of comparisons are kept, so that none is carried out twice."""

import hashlib
import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from kd_cli.commands.job import Job
from kd_cli.commands.resolve import with_student
from kd_cli.commands.results import RunMeasures
from kd_cli.commands.runs import Run
from kd_cli.config import KdError
from kd_cli.files import require_regular, write_atomically
from kd_cli.version import source_digest


def identify(job: Job) -> dict[str, Any]:
    """Everything that decides what a job comes to, as it reads in a JSON file."""
    plain: dict[str, Any] = json.loads(json.dumps(job.identity() | {"source": source_digest()}))
    return plain


def short_digest(identity: dict[str, Any]) -> str:
    """What tells the file of an identity from others of the same name."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]


class RunStore:
    """A folder of finished runs, one JSON file each, named after the run and a digest of all that decides it.

    Args:
        folder: where.
        job: what all runs have in common.

    Attributes:
        unusable: files that were found, but do not hold what a finished run comes to.
    """

    def __init__(self, folder: Path, job: Job) -> None:
        self.folder, self.job = folder, job
        self.unusable: list[Path] = []

    def find(self, run: Run) -> RunMeasures | None:
        """The measures of a run that was finished earlier with the same data, teachers, options and program."""
        identity = self._identity(run)
        path = self._path(run, identity)
        if not path.exists():
            return None
        try:
            require_regular(path)
            record = json.loads(path.read_text("utf-8"))
            if record["identity"] != identity:
                raise ValueError("another run's")
            return _check(RunMeasures(**record["measures"]), run, len(self.job.dataset.test))
        except (KdError, OSError, RecursionError, ValueError, LookupError, TypeError, AttributeError):
            self.unusable.append(path)
            return None

    def keep(self, run: Run, measures: RunMeasures) -> None:
        """Save the measures of a finished run.

        Raises:
            KdError: the file cannot be written.
        """
        identity = self._identity(run)
        record = {"identity": identity, "measures": asdict(measures)}
        write_atomically(self._path(run, identity), json.dumps(record, indent=2).encode())

    def _identity(self, run: Run) -> dict[str, Any]:
        """Everything that decides how a run ends; for the baseline too the teachers, with which it may agree."""
        return identify(with_student(self.job, run.cell.student, run.cell.method, run.seed, run.cell.lr))

    def _path(self, run: Run, identity: dict[str, Any]) -> Path:
        name = f"{run.cell.student.file_name}-{run.cell.method.method}-seed{run.seed}-{short_digest(identity)}.json"
        return self.folder / self.job.dataset.info.name / name


def _check(measures: RunMeasures, run: Run, test_images: int) -> RunMeasures:
    """The measures, if they can be true.

    Raises:
        ValueError, TypeError: they cannot.
    """
    shares = (measures.accuracy, measures.agreement, measures.ece)
    if not all(isinstance(value, int | float) and 0 <= value <= 1 for value in shares):
        raise ValueError("accuracy, agreement or ECE is not between 0 and 1")
    if not all(0 <= value < math.inf for value in (measures.nll, measures.train_seconds)):
        raise ValueError("NLL or seconds are not finite")
    if {type(measures.seed), type(measures.error_count)} != {int}:  # what JSON has as 50.0 would stay one
        raise TypeError("seed or errors are no whole numbers")
    if not isinstance(measures.fault, str | None):
        raise TypeError("the fault is no text")
    if measures.seed != run.seed or measures.error_count != round((1 - measures.accuracy) * test_images):
        raise ValueError("seed or errors do not fit")
    return measures
