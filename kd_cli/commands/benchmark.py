"""``kd benchmark``: the cost of networks, side by side."""

import os
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from kd_cli.commands.checkpoints import open_for_testing
from kd_cli.commands.inputs import inputs_of
from kd_cli.commands.job import heading
from kd_cli.commands.network_files import describe_model, require_cpu
from kd_cli.commands.results import BenchmarkedModel, BenchmarkResult
from kd_cli.commands.runtimes import EXPORTS, measure_runtimes
from kd_cli.config import LATENCY_THREADS, DataConfig, DeviceName, Role, RunConfig, Runtime
from kd_cli.evaluation.cost import measure_costs
from kd_cli.evaluation.quality import measure_accuracy
from kd_cli.files import require_no_input
from kd_cli.networks.export import require_extra
from kd_cli.networks.runtimes import make_runnable


def benchmark(
    paths: Sequence[Path] = (),
    data: DataConfig = DataConfig(),
    run: RunConfig = RunConfig(),
    reports: Sequence[Path] = (),
    runtimes: Sequence[Runtime] = (),
) -> BenchmarkResult:
    """Measure the cost, and the accuracy, of the given networks, or of the data set's teacher and student.

    Nothing is measured if one of ``reports``, files that the result will be written to, is a file that is read.

    Args:
        paths: checkpoints and exported files.
        data: the data set.
        run: where networks are, and how checkpoints are read.
        reports: as above.
        runtimes: what else to run the networks in, on the CPU. What fails in one of them is part of the result.

    Raises:
        KdError: something is not there, or does not fit together.
    """
    load_average = _read_load()  # before this command adds to it
    if runtimes:
        require_cpu(run, "runtimes are compared")
        run = replace(run, device=DeviceName.cpu)
    if not EXPORTS.keys().isdisjoint(runtimes):
        require_extra()
    dataset, networks = open_for_testing(data, run, paths, train=Runtime.onnx_int8 in runtimes)
    require_no_input(reports, inputs_of([each.path for each in networks], dataset))
    test = dataset.test
    costs = measure_costs([partial(make_runnable, each) for each in networks], test.images)
    models = []
    for network, cost in zip(networks, costs, strict=True):
        logits = torch.from_numpy(network.compute_logits(test.images.cpu().numpy()))
        models.append(
            BenchmarkedModel(
                **vars(describe_model(network)),
                **vars(cost),
                parameters=network.parameters,
                macs=network.macs,
                size_bytes=network.path.stat().st_size,
                accuracy=measure_accuracy(logits, test.labels.cpu())[0],
            )
        )
    found, failed = measure_runtimes(networks, dataset, run, runtimes) if runtimes else ((), ())
    return BenchmarkResult(
        **vars(heading(dataset)),
        threads=torch.get_num_threads(),
        latency_threads=LATENCY_THREADS,
        cores=os.cpu_count() or 1,
        load_average=load_average,
        models=tuple(models),
        student_speedup=_speedup(models),
        runtimes=found,
        failed=failed,
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
