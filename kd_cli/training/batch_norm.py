"""Batch normalisation with the statistics of the whole batch, where several processes share it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.nn.modules._functions import SyncBatchNorm

from kd_cli.training.collectives import exchange


@contextmanager
def whole_batch_statistics(parts: Sequence[float]) -> Iterator[None]:
    """Within this context, every batch normalisation that is trained sees the images of all processes.

    The networks stay as they are, with the modules and the names of their authors: their modules call
    `torch.nn.functional.batch_norm`, which is replaced. A `TorchFunctionMode` would do the same without that, but costs
    time in every call of torch. For GPUs the work is done by the function behind `torch.nn.SyncBatchNorm`, which
    refuses CPUs; for those by `_BatchNorm`.

    Args:
        parts: the part of the batch's images that each process has, summing to 1.
    """
    of_own_images = F.batch_norm
    shares = torch.tensor(parts)

    def normalise(
        x: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> Tensor:
        """As `torch.nn.functional.batch_norm`."""
        if not training:
            return of_own_images(x, running_mean, running_var, weight, bias, training, momentum, eps)
        common = x, weight, bias, running_mean, running_var
        if x.device.type == "cpu":
            y: Tensor = _BatchNorm.apply(*common, momentum, eps, shares)
        else:
            y = SyncBatchNorm.apply(*common, eps, momentum, dist.group.WORLD, dist.get_world_size())
        return y

    F.batch_norm = normalise  # type: ignore[assignment]  # torch calls the first argument `input`
    try:
        yield
    finally:
        F.batch_norm = of_own_images


class _BatchNorm(torch.autograd.Function):
    """Ioffe & Szegedy 2015, "Batch Normalization", algorithm 1 and the gradients after it, over all processes.

    Torch's kernels compute the statistics of this process's images, and the gradients of weight and bias.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        momentum: float,
        eps: float,
        parts: Tensor,
    ) -> Tensor:
        own = torch.stack(torch.batch_norm_update_stats(x, None, None, 0.0))
        means, variances = exchange(own).unbind(dim=1)
        mean = parts @ means
        var = parts @ (variances + (means - mean).square())
        count = round(x.numel() / x.shape[1] / float(parts[dist.get_rank()]))
        if running_mean is not None and running_var is not None:
            running_mean.lerp_(mean.to(running_mean.dtype), momentum)
            running_var.lerp_((var * (count / (count - 1))).to(running_var.dtype), momentum)
        inverse_std = (var + eps).rsqrt()
        gain = inverse_std if weight is None else weight * inverse_std
        shift = -mean * gain if bias is None else torch.addcmul(bias, mean, gain, value=-1)
        ctx.eps, ctx.count = eps, count
        ctx.save_for_backward(x, weight, mean, var, inverse_std, gain)
        return torch.addcmul(_of_channels(shift, x), x, _of_channels(gain, x)).to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, var, inverse_std, gain = ctx.saved_tensors
        _, own_weight, own_bias = torch.ops.aten.native_batch_norm_backward(
            gradient, x, weight, mean, var, None, None, False, ctx.eps, [False, True, True]
        )
        of_weight, of_bias = exchange(torch.stack([own_weight, own_bias])).sum(dim=0).div_(ctx.count)
        # gain * (gradient - of_bias - x_hat * of_weight), with x_hat = (x - mean) / std
        slope = gain * inverse_std * of_weight
        shift = torch.addcmul(slope * mean, gain, of_bias, value=-1)
        own_x = torch.addcmul(_of_channels(shift, x), x, _of_channels(slope, x), value=-1)
        own_x.addcmul_(gradient, _of_channels(gain, x))
        learnt = (None, None) if weight is None else (own_weight, own_bias)
        return own_x, *learnt, None, None, None, None, None


def _of_channels(values: Tensor, x: Tensor) -> Tensor:
    """Values of the channels, (channels,), so shaped that they go with ``x``, (images, channels, ...)."""
    return values.view(-1, *[1] * (x.ndim - 2))
