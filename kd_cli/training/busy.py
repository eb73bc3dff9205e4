"""Other programs on the machine: threads that share cores with them wait for each other and lose most of their time."""

import logging
import os
import time
from pathlib import Path

import torch

from kd_cli.training.device import threads_for, usable_cores
from kd_cli.training.loop import Callback, Epoch, Training
from kd_cli.training.tally import Progress

log = logging.getLogger(__name__)

STATISTICS = Path("/proc/stat")
"""Where Linux counts how long each core has worked. Other systems have no such file, and nothing is said there."""

WORKING = (1, 2, 3, 6, 7)
"""Fields of a core's line: user, nice, system, irq, softirq."""

LEAST_SECONDS = 2.0
"""Of training, before the load is judged."""

TOLERATED = 0.5
"""Cores of a run's own that others may use."""


class BusyMachine(Callback):
    """Says once that other programs use the cores of a run with several threads, and with how many it is faster."""

    def on_fit_begin(self, training: Training) -> None:
        """Start to count, unless the run has one thread or was told how many."""
        with threads_for(training.macs_per_step):
            self.threads = torch.get_num_threads()
        on_cpu = next(training.network.parameters()).device.type == "cpu"
        self.watching = on_cpu and self.threads > 1 and training.config.threads is None
        self.start, self.others = time.perf_counter(), seconds_of_others()

    def on_progress(self, training: Training, progress: Progress) -> None:
        """Look."""
        self._look()

    def on_epoch_end(self, training: Training, epoch: Epoch) -> None:
        """Look."""
        self._look()

    def _look(self) -> None:
        seconds = time.perf_counter() - self.start
        if not self.watching or self.others is None or seconds < LEAST_SECONDS:
            return
        self.watching = False
        cores, busy = len(usable_cores()), ((seconds_of_others() or 0) - self.others) / seconds
        if busy > cores - self.threads + TOLERATED:
            log.warning(
                "other programs use %.1f of %d cores: on a machine this busy --threads %d is faster",
                *(busy, cores, max(1, round(cores - busy - TOLERATED))),
            )


def seconds_of_others() -> float | None:
    """How long this process's cores have worked for others since the machine started; None if nobody counts."""
    try:
        rows = [line.split() for line in STATISTICS.read_text("ascii").splitlines()]
    except OSError:
        return None
    names = {f"cpu{number}" for number in usable_cores()}
    ticks = sum(int(row[field]) for row in rows if row and row[0] in names for field in WORKING)
    own = os.times()
    return ticks / os.sysconf("SC_CLK_TCK") - own.user - own.system - own.children_user - own.children_system
