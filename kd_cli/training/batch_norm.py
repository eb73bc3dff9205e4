"""Batch normalisation with the statistics of the whole batch, where several processes share it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.nn.modules._functions import SyncBatchNorm
from torch.overrides import TorchFunctionMode

from kd_cli.training.collectives import sum_over_processes


class WholeBatchStatistics(TorchFunctionMode):
    """Within this context, every batch normalisation that is trained sees the images of all processes.

    The networks stay as they are, with the modules and the names of their authors. For GPUs the work is done by the
    function behind `torch.nn.SyncBatchNorm`, which refuses CPUs; for those by `_BatchNorm`.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Carry out a call of torch."""
        options = kwargs or {}
        if func is F.batch_norm and options.get("training"):
            return _normalise(*args, **options)
        return func(*args, **options)


def _normalise(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
) -> Tensor:
    """As `F.batch_norm` for training."""
    if x.device.type == "cpu":
        return _BatchNorm.apply(x, weight, bias, running_mean, running_var, momentum, eps)  # type: ignore[no-any-return]
    everyone = dist.group.WORLD, dist.get_world_size()
    return SyncBatchNorm.apply(x, weight, bias, running_mean, running_var, eps, momentum, *everyone)  # type: ignore[no-any-return]


class _BatchNorm(torch.autograd.Function):
    """Ioffe & Szegedy 2015, "Batch Normalization", algorithm 1, with torch's kernels and sums over all processes.

    With given statistics, a kernel for evaluation normalises. Its gradients lack what flows through the statistics:
    ``- (mean(g) + x_hat * mean(g * x_hat)) * weight / std``, which is a batch normalisation of x once more. The means
    are those kernel's own gradients of bias and weight, summed over all processes.
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
    ) -> Tensor:
        own_count = x.numel() // x.shape[1]
        # In 64 bits, as the variance is a difference of these sums.
        own_mean, own_var = (each.double() for each in torch.batch_norm_update_stats(x, None, None, 0.0))
        own = torch.cat([own_mean, own_var + own_mean.square(), own_mean.new_ones(1)]) * own_count
        mean, square, count = sum_over_processes(own).split([x.shape[1], x.shape[1], 1])
        mean, var = mean / count, (square / count - (mean / count).square()).clamp_min(0)
        if running_mean is not None and running_var is not None:
            running_mean.lerp_(mean.to(running_mean.dtype), momentum)
            running_var.lerp_((var * count / (count - 1)).to(running_var.dtype), momentum)
        ctx.eps, ctx.count = eps, count.item()
        mean, var = mean.float(), var.float()
        ctx.save_for_backward(x, weight, mean, var)
        return torch.batch_norm(x, weight, bias, mean, var, False, 0.0, eps, False)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, var = ctx.saved_tensors
        own_x, own_weight, own_bias = torch.ops.aten.native_batch_norm_backward(
            gradient, x, weight, mean, var, None, None, False, ctx.eps, [True, True, True]
        )
        sums = sum_over_processes(torch.cat([own_weight, own_bias])) / ctx.count
        scale = -torch.rsqrt(var + ctx.eps) if weight is None else -weight * torch.rsqrt(var + ctx.eps)
        through_weight, through_bias = (scale * each for each in sums.chunk(2))
        own_x += torch.batch_norm(x, through_weight, through_bias, mean, var, False, 0.0, ctx.eps, False)
        learnt = (None, None) if weight is None else (own_weight, own_bias)
        return own_x, *learnt, None, None, None, None
