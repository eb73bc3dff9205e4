"""What it saves to stop trials early, and what it costs: searches with no pruning, successive halving and Hyperband.

``python -m tests.benchmarks.pruning --searches 5 --fraction 0.2``, with a fifth of MNIST's labels.
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import fmean, stdev
from unittest.mock import patch

import torch
from optuna.pruners import BasePruner, HyperbandPruner, NopPruner, SuccessiveHalvingPruner

from kd_cli.commands import trials
from kd_cli.commands.results import TunedMethod
from kd_cli.commands.tune import tune
from kd_cli.commands.tune_config import TuneConfig
from kd_cli.config import DataConfig, LabelConfig, TrainingConfig
from kd_cli.networks.spec import parse_spec
from tests.conftest import DATA_DIR

EPOCHS, TRIALS = 5, 24

PRUNERS: dict[str, Callable[..., BasePruner]] = {
    "none": lambda *_: NopPruner(),
    "successive halving": SuccessiveHalvingPruner,
    "Hyperband": lambda least, factor: HyperbandPruner(least, EPOCHS, factor),
}


def search(pruner: str, seed: int, fraction: float) -> tuple[TunedMethod, ...]:
    """The baseline and kd, tuned."""
    with patch.object(trials, "SuccessiveHalvingPruner", PRUNERS[pruner]), tempfile.TemporaryDirectory() as folder:
        config = TuneConfig(("kd",), parse_spec("mlp-32"), TRIALS, seeds=1, jobs=1, results_dir=Path(folder))
        training = TrainingConfig(epochs=EPOCHS, seed=seed)
        return tune(config, labels=LabelConfig(fraction), data=DataConfig("mnist", DATA_DIR), training=training).rows


def main() -> None:
    """Print, for each pruner, the epochs that it saves and the validation accuracy that it loses."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--searches", type=int, default=5)
    parser.add_argument("--fraction", type=float, default=1.0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    found = {
        pruner: [row for seed in range(given.searches) for row in search(pruner, seed, given.fraction)]
        for pruner in PRUNERS
    }
    for pruner, rows in found.items():
        epochs = sum(len(trial.accuracies) for row in rows for trial in row.search)
        saved = len(rows) * TRIALS * EPOCHS / epochs
        losses = [
            100 * (row.validation_accuracy - whole.validation_accuracy)
            for row, whole in zip(rows, found["none"], strict=True)
        ]
        error = stdev(losses) / len(losses) ** 0.5
        print(f"{pruner}: {saved:.2f} times fewer epochs, {fmean(losses):+.2f} ± {error:.2f} points")


if __name__ == "__main__":
    main()
