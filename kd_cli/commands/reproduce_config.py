"""What ``kd reproduce`` is told. Free of torch."""

from dataclasses import dataclass
from pathlib import Path

from kd_cli.commands.grid import FRESH, RESULTS_DIR
from kd_cli.commands.hinton2015 import HINTON_2015
from kd_cli.commands.recipes import Paper, Row
from kd_cli.config import DATA_DIR, Config, DeviceName, TrainingPrecision, option, read_list, require_name

PAPERS: dict[str, Paper] = {"hinton-2015": HINTON_2015}
"""What ``kd reproduce`` takes."""


@dataclass(frozen=True)
class ReproduceConfig(Config):
    """How much of a paper is reproduced, and where the networks are kept."""

    row: tuple[str, ...] = option((), "Only these results. Default: all.", metavar="NAME,...", read=read_list)
    quick: bool = option(False, "Smaller networks and fewer images: which way each result goes, in minutes.")
    seeds: int = option(3, "Runs of each network.", minimum=1, maximum=10_000)
    jobs: int | None = option(
        None, "Networks to train at a time, each with one thread. Default: one per core.", minimum=1, maximum=1_000
    )
    precision: TrainingPrecision = option(
        TrainingPrecision.fp32, "bf16: train in half the time or less, on a CPU or GPU that has it."
    )
    fresh: bool = FRESH
    results_dir: Path = RESULTS_DIR
    data_dir: Path = DATA_DIR
    device: DeviceName = option(DeviceName.auto, "Where to compute.")

    def rows_of(self, name: str) -> tuple[Row, ...]:
        """The rows of a paper that are asked for.

        Raises:
            ConfigError: there is no such paper, or no such row.
        """
        require_name("paper", name, PAPERS)
        paper = PAPERS[name]
        rows = {row.name: row for row in (paper.quick_rows if self.quick else paper.rows)}
        for each in self.row:
            require_name("row", each, rows)
        return tuple(row for row in rows.values() if not self.row or row.name in self.row)
