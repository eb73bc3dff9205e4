"""``kd reproduce``: a paper's results, measured again -> its numbers beside ours."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from statistics import fmean, stdev

from tqdm import tqdm

from kd_cli.commands.evaluate import evaluate
from kd_cli.commands.job import heading
from kd_cli.commands.many_runs import stopped
from kd_cli.commands.recipes import FROM_LABELS_TOO, VALIDATION_FRACTION, Reading, Recipe, Row
from kd_cli.commands.reproduce_config import PAPERS, ReproduceConfig
from kd_cli.commands.reproduce_runs import NetworkRuns, NetworkTask, train_network
from kd_cli.commands.results import (
    FailedRun,
    Measured,
    ReadingResult,
    ReproductionResult,
    RowResult,
    RunCount,
)
from kd_cli.config import ClassBiasConfig, DataConfig, KdError, RunConfig
from kd_cli.data import prepared
from kd_cli.data.classes import find_class
from kd_cli.evaluation.measures import Quality
from kd_cli.files import require_writable
from kd_cli.training import device
from kd_cli.training.processes import WorkerDiedError, carry_out_rounds

log = logging.getLogger(__name__)

Measure = Callable[[Path, ClassBiasConfig], tuple[Quality, dict[str, float]]]
"""(checkpoint, bias) -> its quality on the test set, and the biases that it was given."""


def reproduce(name: str, config: ReproduceConfig = ReproduceConfig()) -> ReproductionResult:
    """Train the networks behind a paper's results, but for those that are kept, and count their errors.

    Args:
        name: of the paper, one of `PAPERS`.
        config: which results, how often, where to compute, and where the networks are kept.

    Raises:
        RunStoppedError: the user stopped it; says what is kept.
        KdError: the data set is not there, something cannot be written, or no network came to anything.
    """
    rows = config.rows_of(name)
    data = DataConfig(PAPERS[name].dataset, config.data_dir)
    images = prepared.load(data, train=False).to(device.select(config.device))
    where = RunConfig(device=config.device)
    seeds = tuple(range(config.seeds))
    folder = config.results_dir / images.info.name / name
    require_writable(folder / "probe")
    recipes = (recipe for row in rows for recipe in row.recipes())
    runs = NetworkRuns(recipes, seeds, folder, data, where, config.fresh, config.precision)
    failed, count = _train(runs, config)
    measure = cache(lambda path, bias: _measure(path, bias, data, where))
    return ReproductionResult(
        **vars(heading(images, threads=1)),
        paper=name,
        reference=PAPERS[name].reference,
        quick=config.quick,
        seeds=seeds,
        test_images=len(images.test),
        results_dir=str(folder),
        runs=count,
        rows=tuple(_read_row(row, runs, images.info.classes, measure) for row in rows),
        failed=failed,
    )


def _train(runs: NetworkRuns, config: ReproduceConfig) -> tuple[tuple[FailedRun, ...], RunCount]:
    """Train all networks that are not kept; those that came to nothing and are missed, and how many were trained.

    Raises:
        RunStoppedError: the user stopped it; says what is kept.
        KdError: none came to anything.
    """
    errors: dict[NetworkTask, str] = {}
    trained = 0
    workers = config.jobs or (len(device.usable_cores()) if device.select(runs.run.device).type == "cpu" else 1)
    try:
        with tqdm(total=runs.total, unit="network", disable=None, leave=False, smoothing=0) as bar:
            for task, outcome in carry_out_rounds(runs.next_tasks, train_network, workers):
                error = str(outcome) if isinstance(outcome, WorkerDiedError) else outcome
                runs.files[task.run] = None if error else task.path
                if error:
                    errors[task] = error
                trained += 1
                bar.set_description(str(task))
                bar.update(len(runs.files) - bar.n)
    except KeyboardInterrupt as error:
        kept = f"{sum(path is not None for path in runs.files.values())} of {runs.total} networks"
        raise stopped(runs.folder, kept, config.fresh) from error
    if not any(runs.files.values()):
        raise KdError(f"no network came to anything; the first one: {next(iter(errors.values()))}")
    lost = [task for task in errors if runs.has_lost(task.run)]
    for task in lost:
        log.warning("%s: %s; another setting is taken", task, errors[task])
    failed = tuple(FailedRun(str(task), error) for task, error in errors.items() if task not in lost)
    return failed, RunCount(runs.total, trained, workers)


def _measure(path: Path, bias: ClassBiasConfig, data: DataConfig, run: RunConfig) -> tuple[Quality, dict[str, float]]:
    """The quality of a network on the test set, and the biases that were fitted for it."""
    if bias.fit_class_bias:
        data = replace(data, validation_fraction=VALIDATION_FRACTION)
    (model,) = evaluate([path], data, run, bias=bias).models
    biased = model.with_class_bias
    return (biased.quality, biased.biases) if biased else (model, {})


def _read_row(row: Row, runs: NetworkRuns, classes: Sequence[str], measure: Measure) -> RowResult:
    readings = tuple(_read(each, runs, classes, measure) for each in row.readings)
    means = {each.name: each.ours.mean for each in readings if each.ours}
    means |= {each.name + FROM_LABELS_TOO: each.from_labels.mean for each in readings if each.from_labels}
    numbers = len(row.readings) + sum(each.labels is not None for each in row.readings)
    return RowResult(
        name=row.name,
        says=row.says,
        claim=row.claim,
        holds=row.holds(means) if row.holds and len(means) == numbers else None,
        readings=readings,
        commands=tuple(_list_commands(row, runs)),
    )


def _read(reading: Reading, runs: NetworkRuns, classes: Sequence[str], measure: Measure) -> ReadingResult:
    return ReadingResult(
        name=reading.name,
        paper=reading.paper,
        temperature=reading.recipe.method.temperature,
        ours=_count(reading, reading.recipe, runs, classes, measure),
        from_labels=_count(reading, reading.labels, runs, classes, measure) if reading.labels else None,
    )


def _count(
    reading: Reading, recipe: Recipe, runs: NetworkRuns, classes: Sequence[str], measure: Measure
) -> Measured | None:
    """The errors that a reading counts, of each run of a recipe; None without any."""
    measured = [measure(path, reading.bias) for path in runs.files_of(recipe)]
    if not measured:
        return None
    errors = [_errors_of(quality, reading.of_class, classes) for quality, _ in measured]
    return Measured(
        runs=tuple(errors),
        mean=fmean(errors),
        std=stdev(errors) if len(errors) > 1 else None,
        biases=tuple(biases for _, biases in measured) if reading.fit_bias else (),
    )


def _errors_of(quality: Quality, name: str | None, classes: Sequence[str]) -> int:
    """How many test images are classified wrongly: all, or those of a class."""
    if name is None:
        return quality.error_count
    label = find_class(name, classes)
    return sum(quality.confusion[label]) - quality.confusion[label][label]


def _list_commands(row: Row, runs: NetworkRuns) -> Iterator[str]:
    """The commands that train the first run of each network, with the setting that was chosen, and test it."""
    for recipe in dict.fromkeys(row.recipes()):
        yield runs.command_of(recipe)
    yield from dict.fromkeys(reading.command(runs.data) for reading in row.readings)
