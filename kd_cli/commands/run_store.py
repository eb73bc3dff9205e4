"""Where the finished runs of comparisons are kept, so that none is carried out twice."""

import hashlib
import json
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from kd_cli.commands.job import Job, with_student
from kd_cli.commands.results import RunMeasures
from kd_cli.commands.runs import Run
from kd_cli.files import write_atomically

PACKAGE = Path(__file__).parents[1]

COMPUTING = (
    *("config.py", "data", "networks", "training", "distillation", "evaluation"),
    *("commands/job.py", "commands/runs.py"),
)
"""The parts of the program whose code decides what a run comes to."""


class RunStore:
    """A folder of finished runs, one JSON file each, named after the run and a digest of all that decides it.

    Args:
        folder: where.
        job: what all runs have in common.
    """

    def __init__(self, folder: Path, job: Job) -> None:
        self.folder, self.job = folder, job

    def find(self, run: Run) -> RunMeasures | None:
        """The measures of a run that was finished earlier with the same data, teachers, options and program."""
        try:
            record = json.loads(self._path(run).read_text("utf-8"))
            if record["identity"] != self._identity(run):
                return None
            return RunMeasures(**record["measures"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None  # not there, or cut off, or foreign: it is carried out again

    def keep(self, run: Run, measures: RunMeasures) -> None:
        """Save the measures of a finished run.

        Raises:
            KdError: the file cannot be written.
        """
        record = {"identity": self._identity(run), "measures": asdict(measures)}
        write_atomically(self._path(run), json.dumps(record, indent=2).encode())

    def _identity(self, run: Run) -> dict[str, Any]:
        """Everything that decides how a run ends; for the baseline too the teachers, with which it may agree."""
        job = with_student(self.job, run.cell.student, run.cell.method, run.seed)
        identity = job.identity() | {"source": source_digest()}
        plain: dict[str, Any] = json.loads(json.dumps(identity))  # as it reads in a file
        return plain

    def _path(self, run: Run) -> Path:
        identity = json.dumps(self._identity(run), sort_keys=True)
        digest = hashlib.sha256(identity.encode()).hexdigest()[:12]
        name = f"{run.cell.student}-{run.cell.method.method}-seed{run.seed}-{digest}.json"
        return self.folder / self.job.dataset.info.name / name


@cache
def source_digest(package: Path = PACKAGE) -> str:
    """A SHA-256 of the code that computes a run: an edited loss must not find the runs of the old one."""
    files = [file for part in COMPUTING for file in sorted([package / part, *(package / part).rglob("*.py")])]
    digest = hashlib.sha256()
    for file in files:
        if file.is_file():
            digest.update(file.read_bytes())
    return digest.hexdigest()
