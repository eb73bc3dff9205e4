"""A command that torchrun started as several processes: what is checked before and after they train together."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from kd_cli.config import ConfigError, DeviceConfig, KdError, TrainingConfig
from kd_cli.networks.checkpoint import compute_digest
from kd_cli.training.device import use_threads
from kd_cli.training.group import Group, join
from kd_cli.training.loop import Training

log = logging.getLogger(__name__)

MACS_WORTH_PROCESSES = 100_000_000
"""In one step of a CPU, forwards. Far below, two processes take longer than one of them alone (docs/scale.md)."""


@contextmanager
def joined(training: TrainingConfig, run: DeviceConfig) -> Iterator[Group]:
    """The group of this command's processes, as `join`, which compute with as many threads as they were told.

    Raises:
        ConfigError: a batch has fewer images than there are processes, or one of several is to compile its step.
        KdError: as `join`.
    """
    with join(run.device) as group, use_threads(training.threads):
        if training.batch_size < group.size:
            raise ConfigError(
                f"--batch-size {training.batch_size} is of all processes together, and there are {group.size}: "
                "use a larger one, or fewer processes"
            )
        if training.compile and group.size > 1:
            raise ConfigError("--compile is for one process: leave it out, or start kd without torchrun")
        yield group


def require_same_run(group: Group, identity: dict[str, Any], told: dict[str, Any]) -> None:
    """Refuse processes that were told to train different things.

    Args:
        group: the processes.
        identity: `Job.identity`.
        told: options beside it.

    Raises:
        KdError: an option or the data differ; says which.
    """
    group.require_same({**identity, **told}, "start all of them with the same command and the same files")


def warn_if_too_small(training: Training) -> None:
    """Say where one process would be faster, as far as it is known what the network costs."""
    small = training.macs_per_step < MACS_WORTH_PROCESSES
    if training.group.size > 1 and small and training.batches.split.images.device.type == "cpu":
        log.warning(
            "several processes are slower than one for a network this small (%.1f million multiply-accumulates in a "
            "step): start kd without torchrun, or use a larger --batch-size",
            training.macs_per_step / 1e6,
        )


def require_same_weights(group: Group, network: nn.Module) -> None:
    """Find out that the processes no longer train the same network.

    Raises:
        KdError: their weights differ.
    """
    if group.size == 1:
        return
    weights = {name: tensor.cpu().contiguous() for name, tensor in network.state_dict().items()}
    try:
        group.require_same({"weights": compute_digest({}, weights)}, "")
    except KdError as error:
        raise KdError(
            "the processes have come to different weights: do all of them have the same processor or GPU, and the same "
            "versions of kd and torch? train in one process to have a result"
        ) from error
