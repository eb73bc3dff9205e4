"""What a training run will take, estimated before it starts, and whether that is too much for a shared server."""

from dataclasses import dataclass

import torch
from torch import Tensor

from kd_cli.app.limits import MAX_EPOCHS, MAX_PARAMETERS, MAX_RUN_MEGABYTES, MAX_RUN_MINUTES
from kd_cli.commands.job import BYTES_PER_PARAMETER, StudentConfig
from kd_cli.config import KdError
from kd_cli.data.dataset import DataInfo
from kd_cli.networks.classifier import FORWARD_CHUNK, Classifier, build_classifier, count_parameters

MACS_PER_SECOND = 5e9
"""Of one thread, with room for what other visitors take."""

STEP_SECONDS = 1e-3
"""That a step takes however small the network is."""

FORWARD_AND_BACKWARD = 3
"""How often a step computes the network's multiply-accumulates."""

SLACK = 5.0
"""How many times its estimate a run may take: visitors who draw go first."""

LEAST_SECONDS = 120.0
"""That any run may take."""


@dataclass(frozen=True)
class Estimate:
    """What a run takes: values to train, bytes of memory, seconds."""

    parameters: int
    memory_bytes: float
    seconds: float

    @property
    def allowed_seconds(self) -> float:
        """After which the run is ended."""
        return LEAST_SECONDS + SLACK * self.seconds


def estimate(config: StudentConfig, data: DataInfo, images: int, teacher_macs: int = 0) -> Estimate:
    """Estimate a run from its sizes.

    Args:
        config: what to train.
        data: what to train it on.
        images: training images.
        teacher_macs: the teacher's multiply-accumulates for an image.
    """
    training = config.training
    with torch.device("meta"):  # counts without memory
        classifier = build_classifier(config.architecture, data)
        parameters = count_parameters(classifier)
        saved = _count_saved(classifier, data, 2) - _count_saved(classifier, data, 1)  # of an image, without weights
    pixels = data.shape[0] * data.shape[1] * data.shape[2]
    at_once = max(2 * training.batch_size, FORWARD_CHUNK)  # values and gradients; or values when it is tested
    memory = BYTES_PER_PARAMETER * parameters + 4 * saved * at_once + images * pixels
    passes = training.epochs if training.always_new else 1
    steps = training.epochs * -(-images // training.batch_size)
    macs = images * (training.epochs * FORWARD_AND_BACKWARD * classifier.macs + passes * teacher_macs)
    return Estimate(parameters, memory, macs / MACS_PER_SECOND + steps * STEP_SECONDS)


def _count_saved(classifier: Classifier, data: DataInfo, images: int) -> int:
    """Values that a forward pass keeps for the backward pass, weights among them."""
    count = 0

    def pack(tensor: Tensor) -> Tensor:
        nonlocal count
        count += tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        classifier(torch.empty(images, *data.shape, device="meta"))
    return count


def require_modest(config: StudentConfig, data: DataInfo, images: int, teacher_macs: int = 0) -> Estimate:
    """Refuse a run that would keep the server, which all visitors share, busy for long; the estimate otherwise.

    Raises:
        KdError: says the bound.
    """
    if config.training.epochs > MAX_EPOCHS:
        raise KdError(f"this page trains for up to {MAX_EPOCHS} epochs: choose fewer, or use kd distill")
    found = estimate(config, data, images, teacher_macs)
    if found.parameters > MAX_PARAMETERS:
        raise KdError(
            f"{config.architecture} has {found.parameters:,} parameters, and this page trains students of up to "
            f"{MAX_PARAMETERS:,}: choose a smaller one, or use kd distill"
        )
    megabytes, minutes = found.memory_bytes / 2**20, found.seconds / 60
    if megabytes > MAX_RUN_MEGABYTES:
        raise KdError(
            f"this run would take about {megabytes:,.0f} MB of memory, and this page gives a run up to "
            f"{MAX_RUN_MEGABYTES:,} MB: choose a smaller student, or use kd distill"
        )
    if minutes > MAX_RUN_MINUTES:
        raise KdError(
            f"this run would take about {minutes:,.0f} min, and this page gives a run up to {MAX_RUN_MINUTES} min: "
            "choose a smaller student or fewer epochs, or use kd distill"
        )
    return found
