"""A running average of the weights, which often predicts better than the weights themselves."""

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

Tensors = tuple[Tensor, ...] | list[Tensor]


def average_weights(network: nn.Module, decay: float) -> AveragedModel:
    """A copy of a network, ``module``, whose weights follow the network's at each ``update_parameters(network)``.

    Polyak & Juditsky 1992, "Acceleration of Stochastic Approximation by Averaging", with exponentially falling weights:
    ``average = decay * average + (1 - decay) * weights``; after the first update it is the weights. The statistics of
    batch normalisation are averaged likewise, so that they fit the weights.
    """

    def follow(averages: Tensors, current: Tensors, _: Tensor | int) -> None:
        if averages[0].is_floating_point():
            torch._foreach_lerp_(averages, current, 1 - decay)
        else:  # counts and indices, whose average means nothing; torch's own function would round them down
            torch._foreach_copy_(averages, current)

    return AveragedModel(network, multi_avg_fn=follow, use_buffers=True)
