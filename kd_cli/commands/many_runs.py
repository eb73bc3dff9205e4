"""Many runs side by side, each of them once: those that an earlier command has finished are found, and not repeated."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from tqdm import tqdm

from kd_cli.commands.grid import Cell, KeptRunsConfig
from kd_cli.commands.job import Job, StudentConfig
from kd_cli.commands.results import FailedRun, RunCount, RunMeasures
from kd_cli.commands.run_store import RunStore
from kd_cli.commands.runs import Run, RunOutcome, carry_out_run, forget_worker, share_outputs
from kd_cli.config import DeviceName, KdError, RunStoppedError
from kd_cli.files import require_writable
from kd_cli.training.device import usable_cores
from kd_cli.training.processes import MakeExecutor, WorkerDiedError, carry_out

log = logging.getLogger(__name__)

Outcomes = dict[Run, RunOutcome]


@dataclass(frozen=True)
class Workers:
    """How many runs are carried out at a time, and what makes the executor that does it."""

    count: int
    make_executor: MakeExecutor


@dataclass(frozen=True)
class FinishedRuns:
    """The outcomes of all runs, their seeds, and how many there were."""

    outcomes: Outcomes
    seeds: tuple[int, ...]
    count: RunCount

    @property
    def failed(self) -> tuple[FailedRun, ...]:
        """Those that came to nothing."""
        return tuple(FailedRun(str(run), each.error) for run, each in self.outcomes.items() if each.error)


def carry_out_runs(
    cells: Sequence[Cell], config: KeptRunsConfig, common: StudentConfig, job: Job, make_executor: MakeExecutor
) -> FinishedRuns:
    """Train each cell with each seed, but for runs that are done already, and test what comes of it.

    Raises:
        RunStoppedError: the user stopped it; says what is kept.
        KdError: something cannot be written, or does not fit together; or no run came to an end.
    """
    common = fix_choices(common, job)
    seeds = tuple(range(job.training.seed, job.training.seed + config.seeds))
    runs = [Run(cell, seed, common) for seed in seeds for cell in cells]
    store = RunStore(config.results_dir, job)
    require_writable(store.folder / job.dataset.info.name / "probe")
    kept = {} if config.fresh else {run: found for run in runs if (found := store.find(run)) is not None}
    if store.unusable:
        log.warning(
            "%s is no finished run, one of %d such files: these runs are carried out again",
            store.unusable[0],
            len(store.unusable),
        )
    cells = list(dict.fromkeys(run.cell for run in runs if run not in kept))
    with find_workers(config, common, job, cells, make_executor) as workers:
        outcomes, count = _collect(runs, kept, store, workers, config.fresh)
    return FinishedRuns(outcomes, seeds, count)


def fix_choices(common: StudentConfig, job: Job) -> StudentConfig:
    """The same options with the data set and the device that were found, so that every worker takes the same ones."""
    data = common.data
    return replace(
        common,
        data=replace(data, dataset=job.dataset.info.name) if data.dataset == "auto" else data,
        run=replace(common.run, device=DeviceName(job.dataset.device.type)),
    )


def _collect(
    runs: Sequence[Run],
    kept: dict[Run, RunMeasures],
    store: RunStore,
    workers: Workers,
    fresh: bool,
) -> tuple[Outcomes, RunCount]:
    """The outcomes of all runs; those that are not kept already are carried out."""
    outcomes = {run: RunOutcome(measures) for run, measures in kept.items()}
    missing = [run for run in runs if run not in outcomes]
    at_a_time = max(1, min(workers.count, len(missing)))
    try:
        with tqdm(total=len(runs), initial=len(outcomes), unit="run", disable=None, leave=False, smoothing=0) as bar:
            for run, outcome in carry_out(missing, carry_out_run, at_a_time, workers.make_executor):
                if isinstance(outcome, WorkerDiedError):
                    outcome = RunOutcome(None, str(outcome))
                if outcome.measures is not None:
                    store.keep(run, outcome.measures)
                outcomes[run] = outcome
                bar.set_description(str(run))
                bar.update(1)
    except KeyboardInterrupt as error:
        done = sum(outcome.error is None for outcome in outcomes.values())
        raise stopped(store.folder, f"{done} of {len(runs)} runs", fresh) from error
    finally:
        forget_worker()
    errors = [outcome.error for outcome in outcomes.values() if outcome.error]
    if len(errors) == len(runs):
        raise KdError(f"none of {len(runs)} runs came to an end; the first one: {errors[0]}")
    return outcomes, RunCount(len(runs), len(missing), at_a_time)


def stopped(folder: Path, kept: str, fresh: bool) -> RunStoppedError:
    """What to say of a command that the user stopped, and how it goes on."""
    again = "repeat the command without --fresh" if fresh else "repeat the command"
    return RunStoppedError(f"stopped; {folder} keeps {kept}: {again} to go on from there")


@contextmanager
def find_workers(
    config: KeptRunsConfig, common: StudentConfig, job: Job, cells: Sequence[Cell], make_executor: MakeExecutor
) -> Iterator[Workers]:
    """Who carries out runs, on this machine or on a cluster, with the teachers' outputs that they share.

    Args:
        config: says where, and how many at a time.
        common: the options of all runs.
        job: what these are on this machine.
        cells: what the runs train; none if there are no runs.
        make_executor: for this machine.

    Raises:
        KdError: the cluster is not there, or cannot carry out such runs.
    """
    if config.scheduler is None or not cells:
        share_outputs(job, cells)
        yield Workers(count_workers(config.jobs, job), make_executor)
        return
    from kd_cli.cluster.connection import Cluster
    from kd_cli.commands.cluster_runs import prepare_cluster

    with Cluster(config.scheduler) as cluster:
        outputs = share_outputs(job, cells)
        yield Workers(config.jobs or cluster.threads, prepare_cluster(cluster, common, job, cells, outputs))


def count_workers(asked: int | None, job: Job) -> int:
    """As many runs at a time as there are cores for their threads, or one on a GPU, unless told otherwise.

    Networks this small gain nothing from a second thread: two runs with a thread each take little longer than one
    with two.
    """
    if asked is not None or job.dataset.device.type != "cpu":
        return asked or 1
    return max(1, len(usable_cores()) // (job.training.threads or 1))
