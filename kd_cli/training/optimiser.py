"""Optimisers, and how their learning rate moves over a run."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.optim.adam import adam
from torch.optim.adamw import adamw
from torch.optim.sgd import sgd

from kd_cli.config import OptimiserName, Schedule, TrainingConfig

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
"""The paper's, and torch's, defaults."""

ADAMW_DECAY = 0.01
"""Torch's default for AdamW."""

MOMENTUM = 0.9
"""Of gradient descent."""

ONE_CYCLE_PEAK = 4.0
"""How far the one-cycle schedule rises above the learning rate that it starts from."""

ONE_CYCLE_RISE = 0.3
"""The share of the run in which it rises."""

ONE_CYCLE_END = 1e-4
"""Where it ends, as a share of where it starts."""


class Optimiser:
    """What moves weights along their gradients.

    The kinds are those of `torch.optim` in their functional form: the same kernels and the same bits. Its classes
    import torch's compiler on first use, a second of every command, and their bookkeeping takes a tenth of a small
    network's step.

    Args:
        parameters: what to move.
        weight_decay: how strongly they are pulled towards 0.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], weight_decay: float = 0.0) -> None:
        self.parameters, self.weight_decay = list(parameters), weight_decay
        self.param_groups = [{"params": self.parameters}]  # where `torch.amp.GradScaler` looks for them
        # One kernel for all parameters; MPS gained it later than our oldest torch.
        self.fused = all(parameter.device.type in ("cpu", "cuda") for parameter in self.parameters)

    def clear_gradients(self) -> None:
        """Forget the last step's gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Move every parameter that has a gradient."""
        state = zip(self.parameters, *self.state_dict().values(), strict=True)
        moving = [(parameter, parameter.grad, *own) for parameter, *own in state if parameter.grad is not None]
        self._move(learning_rate, *map(list, zip(*moving, strict=True)))

    def _move(self, learning_rate: float, *tensors: list[Tensor]) -> None:
        """Move parameters; ``tensors`` are these, their gradients, and each list of `state_dict`."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, list[Tensor]]:
        """What is kept from step to step: lists with a tensor for each parameter, by name."""
        raise NotImplementedError

    def load_state_dict(self, state: dict[str, list[Tensor]]) -> None:
        """Go on from where `state_dict` was taken.

        Raises:
            ValueError: that was with other parameters.
        """
        for name, own in self.state_dict().items():
            for mine, saved in zip(own, state[name], strict=True):
                if saved.shape != mine.shape:
                    raise ValueError(f"{name} of {tuple(saved.shape)} for parameters of {tuple(mine.shape)}")
                mine.copy_(saved)


class Adam(Optimiser):
    """Kingma & Ba 2015, "Adam: A Method for Stochastic Optimization", algorithm 1; weight decay is L2."""

    formula: Callable[..., None] = staticmethod(adam)

    def __init__(self, parameters: Sequence[nn.Parameter], weight_decay: float = 0.0) -> None:
        super().__init__(parameters, weight_decay)
        self.means = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.squares = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.counts = [torch.zeros((), dtype=torch.float, device=parameter.device) for parameter in self.parameters]

    def _move(self, learning_rate: float, *tensors: list[Tensor]) -> None:
        parameters, gradients, means, squares, counts = tensors
        self.formula(
            parameters,
            gradients,
            means,
            squares,
            [],
            counts,
            fused=self.fused,
            amsgrad=False,
            beta1=BETA1,
            beta2=BETA2,
            lr=learning_rate,
            weight_decay=self.weight_decay,
            eps=EPSILON,
            maximize=False,
        )

    def state_dict(self) -> dict[str, list[Tensor]]:
        """The running averages, and how many steps are in them."""
        return {"means": self.means, "squares": self.squares, "counts": self.counts}


class AdamW(Adam):
    """Loshchilov & Hutter 2019, "Decoupled Weight Decay Regularization", algorithm 2."""

    formula = staticmethod(adamw)


class Sgd(Optimiser):
    """Gradient descent with momentum (Sutskever et al. 2013), as torch computes it; weight decay is L2."""

    def __init__(self, parameters: Sequence[nn.Parameter], weight_decay: float = 0.0) -> None:
        super().__init__(parameters, weight_decay)
        self.velocities = [torch.zeros_like(parameter) for parameter in self.parameters]

    def _move(self, learning_rate: float, *tensors: list[Tensor]) -> None:
        parameters, gradients, velocities = tensors
        sgd(
            parameters,
            gradients,
            velocities,  # type: ignore[arg-type]  # a list that may also have None
            fused=self.fused,
            lr=learning_rate,
            weight_decay=self.weight_decay,
            momentum=MOMENTUM,
            dampening=0.0,
            nesterov=False,
            maximize=False,
        )

    def state_dict(self) -> dict[str, list[Tensor]]:
        """The running sums of gradients."""
        return {"velocities": self.velocities}


KINDS = {OptimiserName.adam: Adam, OptimiserName.adamw: AdamW, OptimiserName.sgd: Sgd}


def make_optimiser(config: TrainingConfig, parameters: Sequence[nn.Parameter]) -> Optimiser:
    """The optimiser that a configuration asks for."""
    decay = config.weight_decay
    if decay is None:
        decay = ADAMW_DECAY if config.optimiser is OptimiserName.adamw else 0.0
    return KINDS[config.optimiser](parameters, decay)


def learning_rate(schedule: Schedule, base: float, step: int, steps: int) -> float:
    """The learning rate of step ``step``, counted from 0, of a run of ``steps``.

    ``one-cycle`` (Smith & Topin 2018, "Super-Convergence") rises to a peak and falls to nearly nothing, ``cosine``
    (Loshchilov & Hutter 2017, "SGDR", equation 5) falls to nothing; both along half a cosine, as torch's do.
    """
    if schedule is Schedule.constant:
        return base
    if schedule is Schedule.cosine:
        return _glide(base, 0.0, step / steps)
    top = ONE_CYCLE_RISE * (steps + 1) - 1
    if step <= top:
        return _glide(base, ONE_CYCLE_PEAK * base, step / top)
    return _glide(ONE_CYCLE_PEAK * base, ONE_CYCLE_END * base, (step - top) / (steps - top))


def _glide(start: float, end: float, share: float) -> float:
    return end + (start - end) / 2 * (1 + math.cos(math.pi * share))
