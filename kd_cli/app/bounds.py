"""What a training run may take of a server that all visitors share.

Weights and memory are counted before a run starts. Time cannot be known then: it is estimated from the run's first
steps, on the machine as it is.
"""

import time
from collections.abc import Callable

import torch
from torch import Tensor

from kd_cli.app.limits import MAX_EPOCHS, MAX_PARAMETERS, MAX_RUN_MEGABYTES, MAX_RUN_MINUTES
from kd_cli.commands.job import StudentConfig
from kd_cli.commands.resolve import BYTES_PER_PARAMETER
from kd_cli.config import FORWARD_CHUNK, KdError
from kd_cli.data.dataset import DataInfo
from kd_cli.networks.classifier import Classifier, build_classifier, count_parameters
from kd_cli.report.tables import counted
from kd_cli.training.loop import Callback, Training

MEASURED_SECONDS = 5.0
"""Of training, from which its whole time is estimated."""


def require_modest(config: StudentConfig, data: DataInfo) -> None:
    """Refuse a run whose size is too much for the server.

    Raises:
        KdError: says the bound.
    """
    if config.training.epochs > MAX_EPOCHS:
        raise KdError(f"this page trains for up to {MAX_EPOCHS} epochs: choose fewer, or use kd distill")
    with torch.device("meta"):  # counts without memory
        classifier = build_classifier(config.architecture, data)
        parameters = count_parameters(classifier)
        if parameters > MAX_PARAMETERS:
            raise KdError(
                f"{config.architecture} has {parameters:,} parameters, and this page trains students of up to "
                f"{MAX_PARAMETERS:,}: choose a smaller one, or use kd distill"
            )
        saved = _count_saved(classifier, data, 2) - _count_saved(classifier, data, 1)  # of an image, without weights
    at_once = max(2 * config.training.batch_size, FORWARD_CHUNK)  # values and gradients; or values when it is tested
    megabytes = (BYTES_PER_PARAMETER * parameters + 4 * saved * at_once) / 2**20
    if megabytes > MAX_RUN_MEGABYTES:
        raise KdError(
            f"this run would take about {megabytes:,.0f} MB of memory, and this page gives a run up to "
            f"{MAX_RUN_MEGABYTES:,} MB: choose a smaller student, or use kd distill"
        )


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


class TimeLimit(Callback):
    """Ends a run soon after its start if it would take too long.

    Args:
        clock: seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._begin = 0.0
        self._done = False

    def on_fit_begin(self, training: Training) -> None:
        """Start the clock."""
        self._begin = self._clock()

    def on_step_end(self, training: Training) -> None:
        """Estimate, once there is enough to estimate from.

        Raises:
            KdError: the run would take too long.
        """
        seconds = self._clock() - self._begin
        if self._done or seconds < MEASURED_SECONDS:
            return
        self._done = True
        minutes = seconds * training.total_steps / training.steps_done / 60
        if minutes > MAX_RUN_MINUTES:
            raise KdError(
                f"by its first {counted(training.steps_done, 'step')}, this run would take about {minutes:,.0f} min, "
                f"and this page gives a run up to {MAX_RUN_MINUTES} min: choose a smaller student or fewer epochs, or "
                "use kd distill"
            )
