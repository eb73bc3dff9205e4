"""``kd tune``: every method, and the baseline, with its best setting -> does distillation help then?

Trials train on a part of the training images and are judged on the others. The test images judge what was chosen, once.
"""

import hashlib
import json
import shlex
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import fmean

from tqdm import tqdm

from kd_cli.commands.checkpoints import require_models
from kd_cli.commands.compare import require_layers_with, summarise
from kd_cli.commands.grid import Cell, make_grid
from kd_cli.commands.job import Job, StudentConfig, heading
from kd_cli.commands.many_runs import carry_out_runs, find_workers, fix_choices, stopped
from kd_cli.commands.resolve import resolve_student, with_student
from kd_cli.commands.results import (
    CellResult,
    FailedRun,
    RefusedCell,
    TrialResult,
    TunedMethod,
    TuningResult,
)
from kd_cli.commands.runs import forget_worker
from kd_cli.commands.search import Search
from kd_cli.commands.settings import Setting, TunedSettings, write_settings
from kd_cli.commands.trials import DIVERGED, NUMBER, SECONDS, TrialOutcome, TrialTask, carry_out_trial, key_of
from kd_cli.commands.tune_config import REPEATS, TuneConfig
from kd_cli.config import (
    ConfigError,
    DataConfig,
    DeviceConfig,
    KdError,
    LabelConfig,
    LogConfig,
    TeacherConfig,
    TrainingConfig,
    as_arguments,
)
from kd_cli.distillation.methods import FROM_LABELS
from kd_cli.files import require_no_input, require_writable
from kd_cli.training.processes import MakeExecutor, WorkerDiedError, carry_out_rounds, local_executor
from kd_cli.version import source_digest

VALIDATION_FRACTION = 0.1
"""Of the training images, unless told otherwise."""


def tune(
    tuning: TuneConfig = TuneConfig(),
    teachers: TeacherConfig = TeacherConfig(),
    labels: LabelConfig = LabelConfig(),
    data: DataConfig = DataConfig(),
    training: TrainingConfig = TrainingConfig(),
    run: DeviceConfig = DeviceConfig(),
    logs: LogConfig = LogConfig(),
    make_executor: MakeExecutor = local_executor,
    reports: Sequence[Path] = (),
) -> TuningResult:
    """Search each method's best setting, train with it on all training images, and compare with the tuned baseline.

    Trials and runs that were done earlier are found, and not repeated. Nothing is carried out if one of ``reports``,
    files that the result will be written to, is a file that is read.

    Raises:
        RunStoppedError: the user stopped it; says what is kept.
        KdError: something is not there, or does not fit together; or a search, or no run, came to an end.
    """
    _require_usable(tuning, data, training)
    common = StudentConfig(tuning.student, FROM_LABELS, teachers, labels, data, training, run, log=logs)
    fraction = data.validation_fraction or VALIDATION_FRACTION
    searching = replace(common, data=replace(data, validation_fraction=fraction))
    job = resolve_student(searching)
    if not teachers.teachers:
        require_models(run, job.dataset.info.name)
    grid = make_grid(tuning.comparison, require_layers_with(job))
    require_no_input(reports, job.inputs())
    searches = [_open_search(cell, job, tuning) for cell in grid.cells]
    carried_out, failed = _search(searches, fix_choices(searching, job), job, tuning, make_executor)
    settings = _write_settings(searches, job, tuning)
    judging = replace(common, data=replace(data, validation_fraction=0))
    final = resolve_student(judging)
    cells = [search.cell_of(search.best) for search in searches if search.best is not None]
    runs = carry_out_runs(cells, tuning, judging, final, make_executor)
    rows = summarise(cells, runs.outcomes, final.dataset.info)
    return TuningResult(
        **vars(heading(final.dataset, final.training.threads or 1)),
        student=str(tuning.student),
        teachers=tuple(str(teacher.path) for teacher in final.teachers),
        teacher_architectures=tuple(teacher.metadata.architecture for teacher in final.teachers),
        trials=tuning.trials,
        trials_carried_out=carried_out,
        seeds=runs.seeds,
        epochs=training.epochs,
        options=asdict(training) | asdict(labels),
        validation_images=len(job.dataset.validation or ()),
        test_images=len(final.dataset.test),
        results_dir=str(tuning.results_dir),
        settings=str(settings),
        runs=runs.count,
        rows=tuple(_describe(row, searches, judging) for row in rows),
        failed=(*failed, *runs.failed),
        refused=tuple(RefusedCell(str(cell), reason) for cell, reason in grid.refused),
    )


def _require_usable(tuning: TuneConfig, data: DataConfig, training: TrainingConfig) -> None:
    """Refuse what would come to light after the search, or would let it choose twice.

    Raises:
        ConfigError: says what to leave out.
    """
    if training.chooses_epoch:
        flag = "--patience" if training.patience else "--keep-best"
        raise ConfigError(f"{flag}: in the end there are no validation images to choose an epoch by; leave it out")
    if data.validation_fraction == 0:
        raise ConfigError("--validation-fraction 0: settings are chosen by validation images; use 0.1")
    replace(training, seed=training.seed + max(tuning.seeds - 1, REPEATS))  # refuses a last seed that is too large


def _open_search(cell: Cell, job: Job, tuning: TuneConfig) -> Search:
    """The search for a method's setting, which goes on from the trials that are kept."""
    own = with_student(job, cell.student, cell.method, job.training.seed)
    validation = own.dataset.validation
    assert validation is not None  # a fraction was asked for
    ranges = {name: str(each) for name, each in cell.method.row.ranges.items()}
    identity = own.identity() | {"source": source_digest(), "prune": tuning.prune, "ranges": ranges}
    path = _study_path(job, tuning, cell.method.method, identity, ".journal")
    require_writable(path)
    if tuning.fresh:
        path.unlink(missing_ok=True)
    start = replace(cell, lr=job.training.lr)
    return Search(start, path, tuning.trials, job.training.seed, len(validation))


def _study_path(job: Job, tuning: TuneConfig, what: str, identity: object, suffix: str) -> Path:
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()[:12]
    name = f"{tuning.student.file_name}-{what}-{digest}{suffix}"
    return tuning.results_dir / job.dataset.info.name / "studies" / name


def _search(
    searches: Sequence[Search], common: StudentConfig, job: Job, tuning: TuneConfig, make_executor: MakeExecutor
) -> tuple[int, list[FailedRun]]:
    """Carry out the trials and repeats that are missing; how many these were, and those that came to nothing.

    Raises:
        RunStoppedError: the user stopped it; says what is kept.
        KdError: a journal cannot be written, or no trial of the baseline came to an end.
    """
    by_method = {search.cell.method.method: search for search in searches}
    before = sum(len(search.carried_out) for search in searches)
    missing = sum(search.missing for search in searches)
    carried_out, failed = 0, []

    def next_tasks() -> list[TrialTask]:
        return [
            TrialTask(search.cell_of(each), each, tuple(search.rivals_of(each)), tuning.prune, common)
            for search in searches
            for each in search.next_round()
        ]

    cells = [search.cell for search in searches] if missing else []
    try:
        with (
            find_workers(tuning, common, job, cells, make_executor) as workers,
            tqdm(total=before + missing, initial=before, unit="trial", disable=None, leave=False, smoothing=0) as bar,
        ):
            count = max(1, min(workers.count, missing))
            for task, outcome in carry_out_rounds(next_tasks, carry_out_trial, count, workers.make_executor):
                if isinstance(outcome, WorkerDiedError):
                    outcome = TrialOutcome(None, str(outcome))
                search = by_method[task.cell.method.method]
                if outcome.trial is not None:
                    search.keep(outcome.trial)
                else:
                    search.failed.add(key_of(task.proposal))
                    failed.append(FailedRun(str(task), outcome.error or ""))
                carried_out += 1
                bar.set_description(str(task))
                bar.update(1)
    except KeyboardInterrupt as error:
        kept = sum(len(search.carried_out) for search in searches)
        whole = f"{kept} of {before + missing} trials and repeats"
        raise stopped(searches[0].path.parent, whole, tuning.fresh) from error
    finally:
        forget_worker()
    for search in searches:
        if search.best is None:
            reason = next((each.error for each in failed), "the loss diverged; use a smaller --lr")
            if search.cell.method.is_baseline:
                raise KdError(f"no trial of the baseline came to an end: {reason}")
            failed.append(FailedRun(str(search.cell), f"no trial came to an end: {reason}"))
    return carried_out, failed


def _write_settings(searches: Sequence[Search], job: Job, tuning: TuneConfig) -> Path:
    """Keep what was chosen for ``kd compare --from-study``; the file's path."""
    chosen = [search.cell_of(search.best) for search in searches if search.best is not None]
    path = _study_path(job, tuning, "settings", [search.path.name for search in searches] + [tuning.trials], ".json")
    settings = tuple(Setting(cell.method, cell.lr) for cell in chosen if cell.lr is not None)
    write_settings(TunedSettings(path, job.dataset.info.name, tuning.student, job.training.epochs, settings))
    return path


def _describe(row: CellResult, searches: Sequence[Search], common: StudentConfig) -> TunedMethod:
    """A row of the final comparison, with the search behind it."""
    search = next(each for each in searches if each.cell.method.method == row.method)
    assert search.best is not None  # it was trained
    cell, accuracies = search.cell_of(search.best), search.accuracies_of(search.best)
    training = replace(common.training, lr=search.best.params["lr"])
    arguments = as_arguments(cell.method, common.teachers, common.labels, common.data, training, common.run)
    return TunedMethod(
        **vars(row),
        validation_accuracy=fmean(accuracies),
        validation_runs=tuple(accuracies),
        trials=len(search.counted),
        repeats=len(search.carried_out) - len(search.counted),
        epochs=sum(len(trial.intermediate_values) for trial in search.carried_out),
        seconds=sum(trial.user_attrs[SECONDS] for trial in search.carried_out),
        command=shlex.join(["kd", "distill", "--student", row.student, *arguments]),
        search=tuple(
            TrialResult(
                number=trial.user_attrs[NUMBER],
                options=dict(trial.params),
                state="diverged" if DIVERGED in trial.user_attrs else trial.state.name.lower(),
                accuracies=tuple(trial.intermediate_values.values()),
                train_seconds=trial.user_attrs[SECONDS],
                repeats=tuple(search.accuracies_of(trial)[1:]),
            )
            for trial in search.counted
        ),
    )
