"""Did it help? Many runs side by side -> means, paired differences to the baseline, and a verdict."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from scipy import stats
from tqdm import tqdm

from kd_cli import data, device, networks
from kd_cli.checkpoint import load_checkpoint
from kd_cli.context import Place, Result, find_teachers, follow, heading, require_teachers
from kd_cli.data import Dataset
from kd_cli.grid import Cell, make_grid
from kd_cli.methods import FROM_LABELS, MethodName
from kd_cli.networks import count_parameters
from kd_cli.recipes import require_labels
from kd_cli.run_archive import Archive, Conditions, Outcome, Run
from kd_cli.runs import carry_out, count_jobs, settle
from kd_cli.settings import KdError, LabelBudget, RunStoppedError, Spec, TrainingSettings

CONFIDENCE = 0.95

BETTER, WORSE, UNDECIDED = "better", "worse", "no difference shown"


@dataclass(frozen=True)
class Comparison:
    """What to compare; ``seeds`` counts them, from the settings' seed upwards."""

    methods: Sequence[MethodName]
    students: Sequence[Spec]
    temperatures: Sequence[float] = ()
    alphas: Sequence[float] = ()
    seeds: int = 5


@dataclass(frozen=True)
class Difference:
    """Mean of (accuracy - the baseline's with the same seed), its 95 % interval (None: one seed), and the verdict."""

    mean: float
    interval: tuple[float, float] | None
    verdict: str


def compare(
    place: Place,
    comparison: Comparison,
    settings: TrainingSettings,
    budget: LabelBudget,
    results_dir: Path,
    teachers: Sequence[Path] = (),
    ensemble: int = 1,
    jobs: int | None = None,
) -> Result:
    """Carry out the whole grid, but for runs that are done already, and say what came of it."""
    worker = device.select(place.device)
    given = [load_checkpoint(path, worker) for path in teachers]
    dataset = data.load(follow(given, place.dataset), place.data_dir).to(worker)
    sources = given or find_teachers(place.models_dir, dataset, ensemble)
    grid = make_grid(
        comparison.methods,
        comparison.students,
        comparison.temperatures,
        comparison.alphas,
        [source.metadata.architecture for source in sources],
    )
    for cell in grid.cells:
        require_teachers(cell.choice, cell.student, sources, dataset)
        require_labels(cell.choice, budget)
    conditions = Conditions(settle(place, dataset), settings, budget, tuple(source.path for source in sources))
    seeds = range(settings.seed, settings.seed + comparison.seeds)
    runs = [Run(cell, seed) for seed in seeds for cell in grid.cells]
    outcomes, fresh, workers = _collect(runs, Archive(results_dir, conditions), conditions, jobs)
    return heading(dataset) | {
        "teachers": [str(source.path) for source in sources],
        "teacher_architectures": [source.metadata.architecture for source in sources],
        "seeds": list(seeds),
        "epochs": settings.epochs,
        "options": asdict(settings) | asdict(budget),
        "test_images": len(dataset.test),
        "results_dir": str(results_dir),
        "runs": {"total": len(runs), "carried_out": fresh, "side_by_side": workers},
        "cells": summarise(grid.cells, outcomes, dataset),
        "failed": [{"run": str(each.run), "error": each.error} for each in outcomes if each.error],
        "refused": [{"cell": str(cell), "reason": reason} for cell, reason in grid.refused],
    }


def _collect(
    runs: Sequence[Run], archive: Archive, conditions: Conditions, jobs: int | None
) -> tuple[list[Outcome], int, int]:
    """The outcomes of all runs, how many of them had to be carried out, and how many side by side."""
    kept = [archive.find(run) for run in runs]
    outcomes = [outcome for outcome in kept if outcome is not None]
    missing = [run for run, outcome in zip(runs, kept, strict=True) if outcome is None]
    workers = count_jobs(jobs, conditions.place, len(missing))
    try:
        with tqdm(total=len(runs), initial=len(outcomes), unit="run", disable=None, leave=False, smoothing=0) as bar:
            for outcome in carry_out(conditions, missing, workers):
                if outcome.error is None:
                    archive.keep(outcome)
                outcomes.append(outcome)
                bar.set_description(str(outcome.run))
                bar.update(1)
    except KeyboardInterrupt:
        done = sum(outcome.error is None for outcome in outcomes)
        raise RunStoppedError(
            f"stopped; {archive.folder} keeps {done} of {len(runs)} runs: repeat the command to go on from there"
        ) from None
    if all(outcome.error for outcome in outcomes):
        raise KdError(f"none of {len(runs)} runs came to an end; the first one: {outcomes[0].error}")
    return outcomes, len(missing), workers


def summarise(cells: Sequence[Cell], outcomes: Sequence[Outcome], dataset: Dataset) -> list[Result]:
    """One row for each cell of which at least one run counts."""
    measures = {(each.run.cell, each.run.seed): each.measures for each in outcomes if each.measures is not None}
    costs = {student: _cost(student, dataset) for student in dict.fromkeys(cell.student for cell in cells)}
    rows = []
    for cell in cells:
        own = {seed: values for (other, seed), values in measures.items() if other == cell}
        if not own:
            continue
        baseline = {seed: measures.get((Cell(cell.student, FROM_LABELS), seed)) for seed in own}
        paired = [(own[seed]["accuracy"], base["accuracy"]) for seed, base in sorted(baseline.items()) if base]
        difference = compare_pairs(paired) if cell.choice != FROM_LABELS and paired else None
        rows.append(
            {
                "student": str(cell.student),
                "method": cell.choice.name.value,
                "options": cell.choice.values,
                **costs[cell.student],
                "runs": [{"seed": seed, **own[seed]} for seed in sorted(own)],
                "mean": {name: float(np.mean([each[name] for each in own.values()])) for name in _names(own)},
                "std": {name: _deviation([each[name] for each in own.values()]) for name in _names(own)},
                "difference": asdict(difference) if difference else None,
            }
        )
    return rows


def compare_pairs(pairs: Sequence[tuple[float, float]]) -> Difference:
    """The mean difference of pairs (method, baseline), each with the same seed, with its Student t interval.

    "better" and "worse" mean that the 95 % interval leaves zero out. One pair has no interval and shows nothing.
    """
    differences = np.array([method - baseline for method, baseline in pairs])
    mean = float(differences.mean())
    if len(pairs) < 2:
        return Difference(mean, None, UNDECIDED)
    error = float(stats.sem(differences))
    # Student's t is not defined for a spread of zero: equal differences are their own interval.
    low, high = stats.t.interval(CONFIDENCE, len(pairs) - 1, loc=mean, scale=error) if error else (mean, mean)
    verdict = BETTER if low > 0 else WORSE if high < 0 else UNDECIDED
    return Difference(mean, (float(low), float(high)), verdict)


def _names(own: dict[int, dict[str, float]]) -> list[str]:
    return list(next(iter(own.values())))


def _deviation(values: Sequence[float]) -> float | None:
    """Standard deviation of a sample; None for a single value."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def _cost(student: Spec, dataset: Dataset) -> dict[str, int]:
    network = networks.build(student, len(dataset.classes))
    return {
        "parameters": count_parameters(network),
        "macs": network.macs,
    }
