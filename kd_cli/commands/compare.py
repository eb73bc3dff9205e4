"""``kd compare``: does distillation help? Many runs side by side -> means, paired differences, and verdicts."""

import logging
import os
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from kd_cli.commands.checkpoints import require_models
from kd_cli.commands.grid import Cell, ComparisonConfig, make_grid
from kd_cli.commands.job import Job, StudentConfig, heading
from kd_cli.commands.resolve import resolve_student, with_student
from kd_cli.commands.results import (
    MEASURES,
    CellResult,
    ComparisonResult,
    FailedRun,
    RefusedCell,
    RunCount,
    RunMeasures,
)
from kd_cli.commands.run_store import RunStore
from kd_cli.commands.runs import Run, RunOutcome, carry_out_run, forget_worker, share_outputs
from kd_cli.config import (
    DataConfig,
    DeviceConfig,
    DeviceName,
    KdError,
    LabelConfig,
    RunStoppedError,
    TeacherConfig,
    TrainingConfig,
)
from kd_cli.data.dataset import DataInfo
from kd_cli.distillation.methods import FROM_LABELS
from kd_cli.evaluation import statistics
from kd_cli.files import require_no_input, require_writable
from kd_cli.networks.classifier import build_classifier, count_parameters
from kd_cli.training.processes import MakeExecutor, WorkerDiedError, carry_out, local_executor

log = logging.getLogger(__name__)

Outcomes = dict[Run, RunOutcome]


def compare(
    comparison: ComparisonConfig = ComparisonConfig(),
    teachers: TeacherConfig = TeacherConfig(),
    labels: LabelConfig = LabelConfig(),
    data: DataConfig = DataConfig(),
    training: TrainingConfig = TrainingConfig(),
    run: DeviceConfig = DeviceConfig(),
    make_executor: MakeExecutor = local_executor,
    reports: Sequence[Path] = (),
) -> ComparisonResult:
    """Carry out the whole grid, but for runs that are done already, and compare each cell with its baseline.

    Nothing is carried out if one of ``reports``, files that the result will be written to, is a file that is read.

    Raises:
        RunStoppedError: the user stopped it; says what is kept.
        KdError: something is not there, or does not fit together; or no run came to an end.
    """
    common = StudentConfig(comparison.students[0], FROM_LABELS, teachers, labels, data, training, run)
    job = resolve_student(common)
    if not teachers.teachers:
        require_models(run, job.dataset.info.name)
    grid = make_grid(
        comparison, lambda cell: with_student(job, cell.student, cell.method, training.seed).require_layers()
    )
    require_no_input(reports, job.inputs())
    # Data set and device are decided here, so that every worker takes the same ones.
    common = replace(
        common,
        data=replace(data, dataset=job.dataset.info.name) if data.dataset == "auto" else data,
        run=replace(run, device=DeviceName(job.dataset.device.type)),
    )
    seeds = tuple(range(training.seed, training.seed + comparison.seeds))
    runs = [Run(cell, seed, common) for seed in seeds for cell in grid.cells]
    store = RunStore(comparison.results_dir, job)
    require_writable(store.folder / job.dataset.info.name / "probe")
    kept = {} if comparison.fresh else {run: found for run in runs if (found := store.find(run)) is not None}
    if store.unusable:
        log.warning(
            "%s is no finished run, one of %d such files: these runs are carried out again",
            store.unusable[0],
            len(store.unusable),
        )
    workers = _count_workers(comparison.jobs, job)
    share_outputs(job, dict.fromkeys(run.cell for run in runs if run not in kept))
    outcomes, count = _collect(runs, kept, store, workers, make_executor, comparison.fresh)
    return ComparisonResult(
        **vars(heading(job.dataset, threads=1)),
        teachers=tuple(str(teacher.path) for teacher in job.teachers),
        teacher_architectures=tuple(teacher.metadata.architecture for teacher in job.teachers),
        seeds=seeds,
        epochs=training.epochs,
        options=asdict(training) | asdict(labels),
        test_images=len(job.dataset.test),
        results_dir=str(comparison.results_dir),
        runs=count,
        cells=tuple(summarise(grid.cells, outcomes, job.dataset.info)),
        failed=tuple(FailedRun(str(run), outcome.error) for run, outcome in outcomes.items() if outcome.error),
        refused=tuple(RefusedCell(str(cell), reason) for cell, reason in grid.refused),
    )


def summarise(cells: Sequence[Cell], outcomes: Outcomes, data: DataInfo) -> list[CellResult]:
    """One row for each cell of which at least one run counts; verdicts are adjusted for how many rows have one."""
    measures: dict[Cell, dict[int, RunMeasures]] = {cell: {} for cell in cells}
    for run, outcome in outcomes.items():
        if outcome.measures is not None:
            measures[run.cell][run.seed] = outcome.measures
    shown = [cell for cell in cells if measures[cell]]
    differences = statistics.adjust([_compare_with_baseline(cell, measures) for cell in shown])
    rows = []
    for cell, difference in zip(shown, differences, strict=True):
        classifier = build_classifier(cell.student, data)
        runs = [measures[cell][seed] for seed in sorted(measures[cell])]
        values = {name: [getattr(run, name) for run in runs] for name in MEASURES}
        rows.append(
            CellResult(
                student=str(cell.student),
                method=cell.method.method,
                options=cell.method.settings,
                parameters=count_parameters(classifier),
                macs=classifier.macs,
                runs=tuple(runs),
                mean={name: float(np.mean(each)) for name, each in values.items()},
                std={name: float(np.std(each, ddof=1)) if len(each) > 1 else None for name, each in values.items()},
                difference=difference,
            )
        )
    return rows


def _compare_with_baseline(cell: Cell, measures: dict[Cell, dict[int, RunMeasures]]) -> statistics.Difference | None:
    own, baseline = measures[cell], measures[Cell(cell.student, FROM_LABELS)]
    seeds = sorted(own.keys() & baseline.keys())
    if cell.method.is_baseline or not seeds:
        return None
    return statistics.compare_pairs([own[seed].accuracy for seed in seeds], [baseline[seed].accuracy for seed in seeds])


def _collect(
    runs: Sequence[Run],
    kept: dict[Run, RunMeasures],
    store: RunStore,
    workers: int,
    make_executor: MakeExecutor,
    fresh: bool,
) -> tuple[Outcomes, RunCount]:
    """The outcomes of all runs; those that are not kept already are carried out."""
    outcomes = {run: RunOutcome(measures) for run, measures in kept.items()}
    missing = [run for run in runs if run not in outcomes]
    workers = max(1, min(workers, len(missing)))
    try:
        with tqdm(total=len(runs), initial=len(outcomes), unit="run", disable=None, leave=False, smoothing=0) as bar:
            for run, outcome in carry_out(missing, carry_out_run, workers, make_executor):
                if isinstance(outcome, WorkerDiedError):
                    outcome = RunOutcome(None, str(outcome))
                if outcome.measures is not None:
                    store.keep(run, outcome.measures)
                outcomes[run] = outcome
                bar.set_description(str(run))
                bar.update(1)
    except KeyboardInterrupt as error:
        done = sum(outcome.error is None for outcome in outcomes.values())
        again = "repeat the command without --fresh" if fresh else "repeat the command"
        raise RunStoppedError(
            f"stopped; {store.folder} keeps {done} of {len(runs)} runs: {again} to go on from there"
        ) from error
    finally:
        forget_worker()
    errors = [outcome.error for outcome in outcomes.values() if outcome.error]
    if len(errors) == len(runs):
        raise KdError(f"none of {len(runs)} runs came to an end; the first one: {errors[0]}")
    return outcomes, RunCount(len(runs), len(missing), workers)


def _count_workers(asked: int | None, job: Job) -> int:
    """As many runs at a time as there are cores, or one on a GPU, unless told otherwise.

    Networks this small gain nothing from a second thread: two runs with a thread each take little longer than one
    with two.
    """
    if asked is not None or job.dataset.device.type != "cpu":
        return asked or 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
