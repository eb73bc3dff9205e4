"""What the runs of a comparison are and come to, and where those that are done are kept, so that none is done twice."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from kd_cli import __version__
from kd_cli.context import Place
from kd_cli.files import write_atomically
from kd_cli.grid import Cell
from kd_cli.settings import LabelBudget, TrainingSettings


@dataclass(frozen=True)
class Run:
    """One training run of a comparison: a cell with a seed."""

    cell: Cell
    seed: int

    def __str__(self) -> str:
        return f"{self.cell}, seed {self.seed}"


@dataclass(frozen=True)
class Conditions:
    """What all runs of a comparison have in common."""

    place: Place
    settings: TrainingSettings
    budget: LabelBudget
    teachers: tuple[Path, ...]


@dataclass(frozen=True)
class Outcome:
    """What a run came to on the test set, or why it came to nothing."""

    run: Run
    measures: dict[str, float] | None
    error: str | None = None


class Archive:
    """A folder of finished runs, one JSON file each, named after what the run is and a hash of all that decides it."""

    def __init__(self, folder: Path, conditions: Conditions) -> None:
        self.folder = folder
        settings = {key: value for key, value in asdict(conditions.settings).items() if key != "seed"}
        self.common = {
            "dataset": conditions.place.dataset.value,
            "device": conditions.place.device.value,
            "settings": settings,
            "budget": asdict(conditions.budget),
            "teachers": [hashlib.sha256(path.read_bytes()).hexdigest() for path in conditions.teachers],
            "versions": {"kd": __version__, "torch": torch.__version__},
        }

    def find(self, run: Run) -> Outcome | None:
        """The outcome of a run that was finished earlier under the same conditions."""
        try:
            record = json.loads(self._path(run).read_text("utf-8"))
            if record["identity"] != self._identity(run):
                return None
            return Outcome(run, {name: float(value) for name, value in record["measures"].items()})
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None  # not there, or cut off, or foreign: it is done again

    def keep(self, outcome: Outcome) -> None:
        """Save the outcome of a finished run.

        Raises:
            KdError: the file cannot be written.
        """
        record = {"identity": self._identity(outcome.run), "measures": outcome.measures}
        write_atomically(self._path(outcome.run), json.dumps(record, indent=2).encode())

    def _identity(self, run: Run) -> dict[str, Any]:
        """Everything that decides how a run ends; for the baseline too the teachers, with which it may agree."""
        choice = run.cell.choice
        method = {"method": choice.name.value, "options": choice.values}
        identity = {**self.common, **method, "student": str(run.cell.student), "seed": run.seed}
        plain: dict[str, Any] = json.loads(json.dumps(identity))  # as it reads in a file: enumerations are words there
        return plain

    def _path(self, run: Run) -> Path:
        identity = self._identity(run)
        digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]
        name = f"{run.cell.student}-{run.cell.choice.name.value}-seed{run.seed}-{digest}.json"
        return self.folder / str(identity["dataset"]) / name
