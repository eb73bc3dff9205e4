"""``kd benchmark``: the cost of networks, side by side."""

import os
from collections.abc import Sequence
from pathlib import Path

import torch

from kd_cli.commands.checkpoints import open_checkpoints
from kd_cli.commands.inputs import inputs_of
from kd_cli.commands.job import heading
from kd_cli.commands.network_files import describe_model
from kd_cli.commands.results import BenchmarkedModel, BenchmarkResult
from kd_cli.config import LATENCY_THREADS, DataConfig, Role, RunConfig
from kd_cli.evaluation.cost import measure_costs
from kd_cli.evaluation.quality import measure_accuracy
from kd_cli.files import require_no_input
from kd_cli.networks.classifier import compute_logits


def benchmark(
    paths: Sequence[Path] = (),
    data: DataConfig = DataConfig(),
    run: RunConfig = RunConfig(),
    reports: Sequence[Path] = (),
) -> BenchmarkResult:
    """Measure the cost, and the accuracy, of the given checkpoints, or of the data set's teacher and student.

    Nothing is measured if one of ``reports``, files that the result will be written to, is a file that is read.

    Raises:
        KdError: something is not there, or does not fit together.
    """
    load_average = _read_load()  # before this command adds to it
    dataset, checkpoints = open_checkpoints(data, run, paths)
    require_no_input(reports, inputs_of([each.path for each in checkpoints], dataset))
    test = dataset.test
    costs = measure_costs([each.classifier for each in checkpoints], test)
    models = [
        BenchmarkedModel(
            **vars(describe_model(checkpoint)),
            **vars(cost),
            size_bytes=checkpoint.path.stat().st_size,
            accuracy=measure_accuracy(compute_logits(checkpoint.classifier, test.images), test.labels)[0],
        )
        for checkpoint, cost in zip(checkpoints, costs, strict=True)
    ]
    return BenchmarkResult(
        **vars(heading(dataset)),
        threads=torch.get_num_threads(),
        latency_threads=LATENCY_THREADS,
        cores=os.cpu_count() or 1,
        load_average=load_average,
        models=tuple(models),
        student_speedup=_speedup(models),
    )


def _read_load() -> float | None:
    """How many programs wanted a core, on average over the last minute; None where the system does not count them."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):
        return None


def _speedup(models: Sequence[BenchmarkedModel]) -> float | None:
    """The first teacher's median latency over the first student's; None unless there is one of each."""
    p50 = {model.role: model.latency_ms.p50 for model in reversed(models)}
    if not {role.value for role in Role} <= p50.keys():
        return None
    return p50[Role.teacher.value] / p50[Role.student.value]
