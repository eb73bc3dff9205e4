"""The runs of a comparison, carried out side by side in processes."""

import math
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace

import torch

from kd_cli import data, device
from kd_cli.checkpoint import load_checkpoint
from kd_cli.context import Place
from kd_cli.data import Dataset
from kd_cli.evaluate import measure_quality
from kd_cli.labels import choose_labels
from kd_cli.methods import FROM_LABELS
from kd_cli.networks import compute_logits
from kd_cli.recipes import Lesson
from kd_cli.run_archive import Conditions, Outcome, Run
from kd_cli.settings import DeviceName, KdError
from kd_cli.teaching import Teaching, average
from kd_cli.train import Silent


class Workshop:
    """Where runs are carried out: the data, the teachers, and what they said, kept from one run to the next."""

    def __init__(self, conditions: Conditions) -> None:
        self.conditions = conditions
        place = conditions.place
        worker = device.select(place.device)
        self.dataset: Dataset = data.load(place.dataset, place.data_dir).to(worker)
        self.networks = [load_checkpoint(path, worker).network for path in conditions.teachers]
        self.teacher_logits = self._test_logits(lambda images: average(self.networks, images, 1.0))
        self._teachings: dict[int, Teaching] = {}

    def carry_out(self, run: Run) -> Outcome:
        """Train and test. What goes wrong becomes the outcome's error: other runs go on."""
        try:
            return Outcome(run, self._train(run))
        except KdError as error:
            return Outcome(run, None, str(error))
        except Exception as error:  # one broken run must not take the others down
            return Outcome(run, None, f"{type(error).__name__}: {' '.join(str(error).split())}")

    def _train(self, run: Run) -> dict[str, float]:
        budget, settings = self.conditions.budget, replace(self.conditions.settings, seed=run.seed)
        teaching = None
        if run.cell.choice == FROM_LABELS:
            train = choose_labels(self.dataset.train, budget, run.seed, teacher=False)
        else:
            teaching = self._teaching(run.seed)
            train = teaching.split
        training = Lesson(run.cell.student, run.cell.choice, settings, train, teaching).start(self.dataset)
        seconds = math.fsum(training.run_epoch(Silent()).seconds for _ in range(settings.epochs))
        logits = self._test_logits(training.network.eval())
        quality = measure_quality(logits, self.dataset.test.labels, self.teacher_logits)
        agreement = quality.agreement if quality.agreement is not None else math.nan
        measured = {"accuracy": quality.accuracy, "error_count": quality.error_count, "agreement": agreement}
        return {**measured, "nll": quality.nll, "ece": quality.ece, "train_seconds": seconds}

    def _teaching(self, seed: int) -> Teaching:
        """What the teachers say of the pictures; of another choice of labelled pictures for each seed, if so asked."""
        key = 0 if self.conditions.budget.fraction == 1 else seed
        if key not in self._teachings:
            train = choose_labels(self.dataset.train, self.conditions.budget, seed, teacher=True)
            always_new = self.conditions.settings.always_new
            self._teachings = {key: Teaching(self.networks, train, self.dataset.normalisation, always_new)}
        return self._teachings[key]

    def _test_logits(self, network: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        return compute_logits(network, self.dataset.test.images, self.dataset.normalisation)


def count_jobs(asked: int | None, place: Place, runs: int) -> int:
    """How many runs to carry out side by side: as many as there are cores, or one on a GPU, unless told otherwise.

    Networks this small gain nothing from a second thread: two runs with a thread each take little longer than one
    with two.
    """
    on_cpu = device.select(place.device).type == "cpu"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(asked or (cores if on_cpu else 1), runs))


def carry_out(conditions: Conditions, runs: Sequence[Run], jobs: int) -> Iterator[Outcome]:
    """Carry out runs, side by side, and hand over each outcome as it comes; every run on a CPU has one thread.

    One at a time, they are done in this process; side by side, in processes. If one of those dies (out of memory, say),
    the runs that were at work are tried once more, each by itself: so no run can take others down, or be blamed for
    what another one did.
    """
    if not runs:
        return
    if jobs == 1:
        yield from _carry_out_here(conditions, runs)
        return
    suspects = yield from _carry_out_together(conditions, runs, jobs)
    while suspects:
        first, rest = suspects[0], suspects[1:]
        if (yield from _carry_out_together(conditions, [first], 1)):
            yield Outcome(first, None, "its process died, twice: is there enough memory? try --jobs 1")
        suspects = rest


def _carry_out_here(conditions: Conditions, runs: Sequence[Run]) -> Iterator[Outcome]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        workshop = Workshop(conditions)
        for run in runs:
            yield workshop.carry_out(run)
    finally:
        torch.set_num_threads(threads)


def _carry_out_together(conditions: Conditions, runs: Sequence[Run], jobs: int) -> Generator[Outcome, None, list[Run]]:
    """Carry out runs in processes; returns those that were at work when a process died."""
    waiting = list(reversed(runs))
    suspects: list[Run] = []
    while waiting:
        context = multiprocessing.get_context("spawn")  # a forked process would inherit threads that do not run in it
        pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_open_workshop, initargs=(conditions,))
        at_work: dict[Future[Outcome], Run] = {}
        try:
            while waiting or at_work:
                while waiting and len(at_work) < jobs:
                    at_work[pool.submit(_carry_out_in_process, waiting[-1])] = waiting[-1]
                    waiting.pop()  # only now: the pool may refuse
                for future in wait(at_work, return_when=FIRST_COMPLETED).done:
                    outcome = future.result()
                    del at_work[future]
                    yield outcome
        except BrokenProcessPool:
            suspects += at_work.values()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in multiprocessing.active_children():
                process.terminate()
    return suspects


_workshop: Workshop
"""This process's own, once `_open_workshop` ran in it."""


def _open_workshop(conditions: Conditions) -> None:
    """Prepare a fresh process for its runs."""
    global _workshop
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asked for the runs
    threading.Thread(target=_follow_parent, daemon=True).start()
    torch.set_num_threads(1)
    _workshop = Workshop(conditions)


def _follow_parent() -> None:
    """End this process with the one that started it, even if that was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _carry_out_in_process(run: Run) -> Outcome:
    return _workshop.carry_out(run)


def settle(place: Place, dataset: Dataset) -> Place:
    """The place with its data set and device decided, so that every process takes the same ones."""
    return replace(place, dataset=dataset.name, device=DeviceName(dataset.test.images.device.type))
