"""``kd export``: a network as a file that other programs run, checked against the original before it is in place."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kd_cli.commands.checkpoints import open_checkpoints, open_dataset, read_checkpoint
from kd_cli.commands.inputs import inputs_of
from kd_cli.commands.network_files import describe_model, require_cpu, require_fit
from kd_cli.commands.results import ExportResult
from kd_cli.config import DataConfig, DeviceName, ExportConfig, ExportFormat, KdError, Precision, RunConfig
from kd_cli.data.dataset import Dataset
from kd_cli.evaluation.quality import measure_accuracy, measure_agreement
from kd_cli.files import require_output, write_atomically
from kd_cli.networks.checkpoint import Checkpoint
from kd_cli.networks.classifier import compute_logits
from kd_cli.networks.export import (
    export_onnx,
    export_pt2,
    is_our_pt2,
    load_pt2,
    require_extra,
    require_survivable,
)
from kd_cli.networks.onnx_file import OnnxNetwork, is_our_onnx
from kd_cli.networks.quantise import export_int8
from kd_cli.training import device

log = logging.getLogger(__name__)

CPU = torch.device("cpu")

RELATIVE_TOLERANCE = 1e-5
"""Of a logit, beside the absolute one: 32-bit sums in another order differ the more, the larger they are."""

RANDOM_IMAGES = 256
"""Run where there is no test set."""


def export(
    path: Path | None = None,
    config: ExportConfig = ExportConfig(),
    data: DataConfig = DataConfig(),
    run: RunConfig = RunConfig(),
    force: bool = False,
) -> ExportResult:
    """Write a checkpoint's network for other programs.

    The file is made elsewhere, read again and run over the whole test set, and takes its place only if it computes what
    the original does. Without the test set of a network in 32 bits, random pixels have to do, with a notice.

    Args:
        path: the checkpoint, or a plain state dict; None is the data set's own.
        config: what to write, and how far it may differ.
        data: the data set that the network was trained on.
        run: where networks are, and how plain state dicts are read.
        force: replace a file that is no exported network.

    Raises:
        KdError: the network cannot be exported, or what was exported differs; or a file is not there, or would be lost.
    """
    checkpoint, dataset = open_network(path, config, data, run)
    output = config.output or _default_output(checkpoint, dataset, config, run.models_dir)
    require_output(output, _is_ours, inputs_of([checkpoint.path], dataset), force)
    with TemporaryDirectory() as folder:
        draft = Path(folder) / f"draft.{config.format.value}"
        result = write_checked(checkpoint, dataset, config, draft, output)
        write_atomically(output, draft.read_bytes())
    return result


def open_network(
    path: Path | None, config: ExportConfig, data: DataConfig, run: RunConfig
) -> tuple[Checkpoint, Dataset | None]:
    """The network to export, and its data set; None where that cannot be had and need not be.

    Raises:
        KdError: the network cannot be had, or nothing can be exported here.
    """
    if config.format is ExportFormat.onnx:
        require_extra()
    require_cpu(run, "an export is checked")
    run = replace(run, device=DeviceName.cpu)
    if path is None or data.dataset != "auto":
        dataset, (checkpoint,) = open_checkpoints(data, run, [path] if path else [], [config.role], train=config.int8)
        return checkpoint, dataset
    checkpoint = read_checkpoint(path, CPU, run)
    try:
        dataset = open_dataset(data, CPU, [checkpoint], train=config.int8)
    except KdError as error:
        if config.precision is not Precision.float32:
            raise KdError(f"--{'int8' if config.int8 else 'half'} needs the data of {path}: {error}") from error
        log.warning(
            "checked on random pixels alone, as the data of %s cannot be had (%s); --dataset says where it is",
            path,
            error,
        )
        return checkpoint, None
    return require_fit(checkpoint, dataset.info), dataset


def write_checked(
    checkpoint: Checkpoint, dataset: Dataset | None, config: ExportConfig, draft: Path, output: Path
) -> ExportResult:
    """Write a network to ``draft``, and compare it with its original.

    Args:
        checkpoint: the network.
        dataset: its images; None where they cannot be had.
        config: how to write it, and how far it may differ.
        draft: a file for this program alone.
        output: what the draft is to become, which results and messages name.

    Raises:
        KdError: the network cannot be exported, or what was exported differs.
    """
    _write(checkpoint, config, draft, dataset)
    return _check(checkpoint, dataset, config, draft, output)


def _default_output(checkpoint: Checkpoint, dataset: Dataset | None, config: ExportConfig, models_dir: Path) -> Path:
    precision = "" if config.precision is Precision.float32 else f"-{config.precision.value}"
    name = f"{checkpoint.path.stem}{precision}.{config.format.value}"
    # What a checkpoint says is no path to follow, but its data set, found by that name, is what it is called.
    return models_dir / dataset.info.name / name if dataset else models_dir / name


def _is_ours(path: Path) -> bool:
    return is_our_pt2(path) or is_our_onnx(path)


def _random_images(shape: tuple[int, ...]) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (RANDOM_IMAGES, *shape), np.uint8)


def _write(checkpoint: Checkpoint, config: ExportConfig, path: Path, dataset: Dataset | None) -> None:
    classifier, metadata = checkpoint.classifier, checkpoint.metadata
    if config.int8:
        assert dataset is not None  # `open_network` sees to that
        export_int8(classifier, metadata, path, dataset.train.images.numpy())
    elif config.format is ExportFormat.onnx:
        export_onnx(classifier, metadata, path, config.half)
    else:
        export_pt2(classifier, metadata, path, config.half)


def _compute_logits(path: Path, format: ExportFormat, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What the file computes, as somebody who reads it would see."""
    if format is ExportFormat.onnx:
        require_survivable(path)
        return OnnxNetwork(path).compute_logits(images)
    network: Callable[[Tensor], Tensor] = load_pt2(path)
    with torch.inference_mode():
        return compute_logits(network, torch.from_numpy(images)).numpy()


def _check(
    checkpoint: Checkpoint, dataset: Dataset | None, config: ExportConfig, draft: Path, output: Path
) -> ExportResult:
    """What the draft computes beside the original.

    Raises:
        KdError: it differs by more than is allowed.
    """
    images = dataset.test.images.numpy() if dataset else _random_images(checkpoint.classifier.shape)
    original = torch.from_numpy(checkpoint.compute_logits(images))
    try:
        exported = torch.from_numpy(_compute_logits(draft, config.format, images))
    except KdError as error:
        raise KdError(f"{output} is not written: {str(error).replace(str(draft), 'the file')}") from error
    labels = dataset.test.labels if dataset else None
    accuracy, errors = (None, None) if labels is None else measure_accuracy(exported, labels)
    original_accuracy, original_errors = (None, None) if labels is None else measure_accuracy(original, labels)
    result = ExportResult(
        (dataset.info if dataset else checkpoint.metadata.data).name,
        *device.describe(CPU),
        file=str(output),
        format=config.format.value,
        precision=config.precision.value,
        size_bytes=draft.stat().st_size,
        accuracy=accuracy,
        error_count=errors,
        original=describe_model(checkpoint),
        original_size_bytes=checkpoint.path.stat().st_size,
        original_accuracy=original_accuracy,
        original_error_count=original_errors,
        max_logit_difference=float((exported - original).abs().max()),
        agreement=measure_agreement(exported, original),
        images=len(images),
        random_pixels=dataset is None,
    )
    if config.precision is Precision.float32:
        same = torch.allclose(exported, original, RELATIVE_TOLERANCE, config.tolerance)
    else:
        same = bool(exported.isfinite().all()) and (original_accuracy or 0) - (accuracy or 0) <= config.max_drop
    if not same:
        raise KdError(f"{output} is not written: {_explain_difference(result)}")
    return result


def _explain_difference(result: ExportResult) -> str:
    if result.precision == Precision.float32:
        return (
            f"its logits would differ by up to {result.max_logit_difference:.2g} from those of "
            f"{result.original.checkpoint}; try another --format, or allow that with --tolerance"
        )
    other = "--half" if result.precision == Precision.int8 else "32 bits"
    return (
        f"its accuracy would be {result.accuracy:.2%}, where {result.original.checkpoint} has "
        f"{result.original_accuracy:.2%}; use {other}, or allow that with --max-drop"
    )
