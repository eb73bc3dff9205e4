"""Networks in several runtimes: exported, loaded, checked and measured. For ``kd benchmark --runtimes``."""

from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from kd_cli.commands.checkpoints import load_network
from kd_cli.commands.export import CPU, write_checked
from kd_cli.commands.network_files import describe_model
from kd_cli.commands.results import FailedRun, RuntimeResult
from kd_cli.config import ExportConfig, KdError, Precision, RunConfig, Runtime
from kd_cli.data.dataset import Dataset
from kd_cli.evaluation.cost import Open, measure_load, measure_speeds
from kd_cli.evaluation.quality import measure_accuracy
from kd_cli.networks.checkpoint import Checkpoint
from kd_cli.networks.export import explained, quiet
from kd_cli.networks.onnx_file import OnnxNetwork
from kd_cli.networks.runtimes import Runnable, make_compiled, make_runnable, many_compiled

LOADS = 5
"""Times that a network is loaded. A compiler does its work once."""

COMPILER_ADVICE = "leave torch-compile out, or install what it needs, such as a C++ compiler"

EXPORTS = {
    Runtime.onnx.value: ExportConfig(),
    Runtime.onnx_int8.value: ExportConfig(int8=True, max_drop=1.0),  # what it costs is there to be seen
}
"""How a checkpoint is exported for a runtime."""


def measure_runtimes(
    networks: Sequence[Checkpoint | OnnxNetwork], dataset: Dataset, run: RunConfig, runtimes: Sequence[Runtime]
) -> tuple[tuple[RuntimeResult, ...], tuple[FailedRun, ...]]:
    """Each network in each runtime, and those of which nothing came.

    An exported file has its own runtime, and is measured in that whatever was asked for.

    Args:
        networks: which fit the data, on the CPU.
        dataset: with training images, if networks are to be quantised.
        run: how checkpoints are read.
        runtimes: what they are to run in.
    """
    found: list[tuple[RuntimeResult, Open]] = []
    failed = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        if Runtime.torch_compile in runtimes:
            stack.enter_context(many_compiled())
        for number, network in enumerate(networks):
            for runtime in _runtimes_of(network, runtimes):
                try:
                    found.append(_prepare(network, runtime, dataset, run, folder / f"{number}-{runtime}.onnx"))
                except KdError as error:
                    name = f"{network.metadata.role.value} {network.metadata.architecture} in {runtime}"
                    failed.append(FailedRun(name, str(error)))
        openers = [opener for _, opener in found]
        thread_counts = sorted({1, torch.get_num_threads()})
        speeds = [measure_speeds(openers, dataset.test.images, threads) for threads in thread_counts]
    results = [replace(result, speeds=own) for (result, _), own in zip(found, zip(*speeds, strict=True), strict=True)]
    return tuple(results), tuple(failed)


def _runtimes_of(network: Checkpoint | OnnxNetwork, asked_for: Sequence[Runtime]) -> list[str]:
    if isinstance(network, Checkpoint):
        return [runtime.value for runtime in asked_for]
    is_exact = network.precision is Precision.float32
    return ["onnx" if is_exact else f"onnx-{network.precision.value}"]


def _prepare(
    network: Checkpoint | OnnxNetwork, runtime: str, dataset: Dataset, run: RunConfig, draft: Path
) -> tuple[RuntimeResult, Open]:
    """A network in a runtime: what is known of it before its speed is measured, and how it is opened.

    Raises:
        KdError: it cannot be exported or compiled.
    """
    about, images, compiled = describe_model(network), dataset.test.images, runtime == Runtime.torch_compile
    if isinstance(network, Checkpoint) and runtime in EXPORTS:
        write_checked(network, dataset, EXPORTS[runtime], draft, Path(f"{network.path.stem}.onnx"))
        network = OnnxNetwork(draft)
    open_network = partial(_open, network, compiled)

    def load() -> Runnable:
        return _open(load_network(network.path, CPU, run, dataset.info), compiled)

    with quiet(), explained("torch.compile fails", COMPILER_ADVICE) if compiled else nullcontext():
        seconds = measure_load(load, images, 1 if compiled else LOADS)
        logits = open_network().compute_logits(images)
    result = RuntimeResult(
        **vars(replace(about, precision=network.precision.value)),
        runtime=runtime,
        size_bytes=network.path.stat().st_size,
        accuracy=measure_accuracy(logits, dataset.test.labels)[0],
        load_seconds=seconds,
        speeds=(),
    )
    return result, open_network


def _open(network: Checkpoint | OnnxNetwork, compiled: bool, threads: int | None = None) -> Runnable:
    if compiled:
        assert isinstance(network, Checkpoint)  # exported files have other runtimes
        return make_compiled(network)
    return make_runnable(network, threads)
