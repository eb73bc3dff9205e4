"""Adam, and how its learning rate moves over a run."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim.adam import adam

from kd_cli.config import Schedule

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
"""The paper's, and torch's, defaults."""

ONE_CYCLE_PEAK = 4.0
"""How far the one-cycle schedule rises above the learning rate that it starts from."""

ONE_CYCLE_RISE = 0.3
"""The share of the run in which it rises."""

ONE_CYCLE_END = 1e-4
"""Where it ends, as a share of where it starts."""


class Adam:
    """Kingma & Ba 2015, "Adam: A Method for Stochastic Optimization", algorithm 1.

    `torch.optim.Adam` in its functional form: the same kernels and the same bits. The class imports torch's compiler on
    its first use, a second of every command, and its bookkeeping takes a tenth of a small network's step.
    """

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self.parameters = list(parameters)
        self.means = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.squares = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.counts = [torch.zeros((), dtype=torch.float, device=parameter.device) for parameter in self.parameters]
        # One kernel for all parameters; MPS gained it later than our oldest torch.
        self.fused = all(parameter.device.type in ("cpu", "cuda") for parameter in self.parameters)

    def clear_gradients(self) -> None:
        """Forget the last step's gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Move every parameter that has a gradient."""
        state = zip(self.parameters, self.means, self.squares, self.counts, strict=True)
        moving = [(p, p.grad, mean, square, count) for p, mean, square, count in state if p.grad is not None]
        parameters, gradients, means, squares, counts = (list(each) for each in zip(*moving, strict=True))
        adam(
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
            weight_decay=0.0,
            eps=EPSILON,
            maximize=False,
        )

    def state_dict(self) -> dict[str, list[Tensor]]:
        """The running averages, and how many steps are in them."""
        return {"means": self.means, "squares": self.squares, "counts": self.counts}

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
