"""``kd compare``: does distillation help? Many runs side by side -> means, paired differences, and verdicts."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from kd_cli.commands.checkpoints import require_models
from kd_cli.commands.grid import Cell, ComparisonConfig, make_grid
from kd_cli.commands.job import Job, StudentConfig, heading
from kd_cli.commands.many_runs import Outcomes, carry_out_runs
from kd_cli.commands.resolve import resolve_student, with_student
from kd_cli.commands.results import MEASURES, CellResult, ComparisonResult, RefusedCell, RunMeasures
from kd_cli.commands.settings import TunedSettings
from kd_cli.config import DataConfig, DeviceConfig, LabelConfig, LogConfig, TeacherConfig, TrainingConfig
from kd_cli.data.dataset import DataInfo
from kd_cli.distillation.methods import FROM_LABELS
from kd_cli.evaluation import statistics
from kd_cli.files import require_no_input
from kd_cli.networks.classifier import build_classifier, count_parameters
from kd_cli.networks.trust import require_trusted
from kd_cli.training.processes import MakeExecutor, local_executor

log = logging.getLogger(__name__)


def compare(
    comparison: ComparisonConfig = ComparisonConfig(),
    teachers: TeacherConfig = TeacherConfig(),
    labels: LabelConfig = LabelConfig(),
    data: DataConfig = DataConfig(),
    training: TrainingConfig = TrainingConfig(),
    run: DeviceConfig = DeviceConfig(),
    logs: LogConfig = LogConfig(),
    make_executor: MakeExecutor = local_executor,
    reports: Sequence[Path] = (),
) -> ComparisonResult:
    """Carry out the whole grid, but for runs that are done already, and compare each cell with its baseline.

    Nothing is carried out if one of ``reports``, files that the result will be written to, is a file that is read.

    Raises:
        RunStoppedError: the user stopped it; says what is kept.
        KdError: something is not there, or does not fit together; or no run came to an end.
    """
    for tuned in comparison.from_study:
        require_trusted(tuned.path, tuned.student, run.trust)
    common = StudentConfig(comparison.first_student, FROM_LABELS, teachers, labels, data, training, run, log=logs)
    job = resolve_student(common)
    if not teachers.teachers:
        require_models(run, job.dataset.info.name)
    _notice_differences(comparison.from_study, job)
    grid = make_grid(comparison, require_layers_with(job))
    require_no_input(reports, [*job.inputs(), *(tuned.path for tuned in comparison.from_study)])
    runs = carry_out_runs(grid.cells, comparison, common, job, make_executor)
    return ComparisonResult(
        **vars(heading(job.dataset, job.training.threads or 1)),
        teachers=tuple(str(teacher.path) for teacher in job.teachers),
        teacher_architectures=tuple(teacher.metadata.architecture for teacher in job.teachers),
        seeds=runs.seeds,
        epochs=training.epochs,
        options=asdict(training) | asdict(labels),
        test_images=len(job.dataset.test),
        results_dir=str(comparison.results_dir),
        runs=runs.count,
        cells=tuple(summarise(grid.cells, runs.outcomes, job.dataset.info)),
        failed=runs.failed,
        refused=tuple(RefusedCell(str(cell), reason) for cell, reason in grid.refused),
    )


def require_layers_with(job: Job) -> Callable[[Cell], None]:
    """What refuses cells whose student, method and teacher cannot go together."""
    return lambda cell: with_student(job, cell.student, cell.method, job.training.seed).require_layers()


def _notice_differences(studies: Sequence[TunedSettings], job: Job) -> None:
    for tuned in studies:
        if (tuned.dataset, tuned.epochs) != (job.dataset.info.name, job.training.epochs):
            log.warning("%s was tuned on %s, for %d epochs", tuned.path, tuned.dataset, tuned.epochs)


def summarise(cells: Sequence[Cell], outcomes: Outcomes, data: DataInfo) -> list[CellResult]:
    """One row for each cell of which at least one run counts; verdicts are adjusted for how many rows have one."""
    measures: dict[Cell, dict[int, RunMeasures]] = {cell: {} for cell in cells}
    for run, outcome in outcomes.items():
        if outcome.measures is not None:
            measures[run.cell][run.seed] = outcome.measures
    shown = [cell for cell in cells if measures[cell]]
    baselines = {cell.student: measures[cell] for cell in cells if cell.method.is_baseline}
    differences = statistics.adjust(
        [
            None if cell.method.is_baseline else _compare(measures[cell], baselines.get(cell.student, {}))
            for cell in shown
        ]
    )
    rows = []
    for cell, difference in zip(shown, differences, strict=True):
        classifier = build_classifier(cell.student, data)
        runs = [measures[cell][seed] for seed in sorted(measures[cell])]
        values = {name: [getattr(run, name) for run in runs] for name in MEASURES}
        rows.append(
            CellResult(
                student=str(cell.student),
                method=cell.method.method,
                options=cell.options,
                parameters=count_parameters(classifier),
                macs=classifier.macs,
                runs=tuple(runs),
                mean={name: float(np.mean(each)) for name, each in values.items()},
                std={name: float(np.std(each, ddof=1)) if len(each) > 1 else None for name, each in values.items()},
                difference=difference,
            )
        )
    return rows


def _compare(own: Mapping[int, RunMeasures], baseline: Mapping[int, RunMeasures]) -> statistics.Difference | None:
    """The paired difference over the seeds that both have; None without any."""
    seeds = sorted(own.keys() & baseline.keys())
    if not seeds:
        return None
    return statistics.compare_pairs([own[seed].accuracy for seed in seeds], [baseline[seed].accuracy for seed in seeds])
