"""How the losses of batches become updates of the weights: summed up, scaled, and averaged over time."""

from typing import Any

from torch import Tensor, nn

from kd_cli.config import TrainingConfig
from kd_cli.networks.max_norm import MaxNormLinear
from kd_cli.training.optimiser import learning_rate, make_optimiser
from kd_cli.training.precision import make_scaler
from kd_cli.training.weight_average import average_weights


class Updates:
    """The updates of a run.

    Args:
        network: what is trained.
        parameters: its parameters, and those of the objective.
        images: how many an epoch shows.
        config: how to train.
    """

    def __init__(self, network: nn.Module, parameters: list[nn.Parameter], images: int, config: TrainingConfig) -> None:
        self.network, self.images, self.config = network, images, config
        self.optimiser = make_optimiser(config, parameters)
        self.scaler = make_scaler(config.precision, parameters[0].device.type)
        self.constrained = [layer for layer in network.modules() if isinstance(layer, MaxNormLinear)]
        self.average = None if config.ema is None else average_weights(network, config.ema)
        # One update for as many images: an epoch's last one may have fewer.
        self.group_size = config.batch_size * config.accumulate

    @property
    def per_epoch(self) -> int:
        """Updates in an epoch."""
        return -(-self.images // self.group_size)

    @property
    def total(self) -> int:
        """Updates in the whole run."""
        return self.per_epoch * self.config.epochs

    def learning_rate(self, epoch: int, batch: int) -> float:
        """The learning rate of the update that a batch is part of; epochs and batches are counted from 0."""
        update = self.per_epoch * epoch + batch // self.config.accumulate
        return learning_rate(self.config.schedule, self.config.lr, update, self.total)

    def add(self, loss: Tensor, size: int, epoch: int, batch: int) -> None:
        """Take in the loss of a batch. The last batch of an update moves the weights.

        Args:
            loss: mean over the batch.
            size: images in the batch.
            epoch: epochs before this one.
            batch: batches before this one in the epoch.
        """
        position = batch % self.config.accumulate
        if position == 0:
            self.optimiser.clear_gradients()
        seen = batch * self.config.batch_size + size
        if self.config.accumulate > 1:
            first = seen - size - position * self.config.batch_size
            loss = loss * (size / min(self.group_size, self.images - first))
        (loss if self.scaler is None else self.scaler.scale(loss)).backward()
        if position + 1 == self.config.accumulate or seen == self.images:
            self._move(self.learning_rate(epoch, batch))

    def _move(self, rate: float) -> None:
        if self.scaler is None:
            self.optimiser.step(rate)
        else:
            self.scaler.step(self.optimiser, rate)  # type: ignore[arg-type]  # has what it needs of torch's
            self.scaler.update()
        for layer in self.constrained:
            layer.constrain()
        if self.average is not None:
            self.average.update_parameters(self.network)

    def state_dict(self) -> dict[str, Any]:
        """All that the next update depends on, beside the weights."""
        return {
            "optimiser": self.optimiser.state_dict(),
            "scaler": {} if self.scaler is None else self.scaler.state_dict(),
            "average": {} if self.average is None else self.average.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from where `state_dict` was taken.

        Raises:
            ValueError, RuntimeError: that was with other parameters.
        """
        self.optimiser.load_state_dict(state["optimiser"])
        if self.scaler is not None:
            self.scaler.load_state_dict(state["scaler"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
