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

from kd_cli.training.collectives import exchange


class WholeBatchStatistics(TorchFunctionMode):
    """Within this context, every batch normalisation that is trained sees the images of all processes.

    The networks stay as they are, with the modules and the names of their authors. For GPUs the work is done by the
    function behind `torch.nn.SyncBatchNorm`, which refuses CPUs; for those by `_BatchNorm`.

    Args:
        parts: the part of the batch's images that each process has, summing to 1.
    """

    def __init__(self, parts: Sequence[float]) -> None:
        super().__init__()
        self.parts = torch.tensor(parts).view(-1, 1)

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
            return self._normalise(*args, **options)
        return func(*args, **options)

    def _normalise(
        self,
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
        common = x, weight, bias, running_mean, running_var
        if x.device.type == "cpu":
            y: Tensor = _BatchNorm.apply(*common, momentum, eps, self.parts)
        else:
            y = SyncBatchNorm.apply(*common, eps, momentum, dist.group.WORLD, dist.get_world_size())
        return y


class _BatchNorm(torch.autograd.Function):
    """Ioffe & Szegedy 2015, "Batch Normalization", algorithm 1 and the gradients after it, over all processes.

    Torch's kernels compute the statistics of this process's images, the output, and the gradients of weight and bias.
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
        mean = (parts * means).sum(dim=0)
        var = (parts * (variances + (means - mean).square())).sum(dim=0)
        own_part = float(parts[dist.get_rank()])
        count = round(x.numel() / x.shape[1] / own_part)
        if running_mean is not None and running_var is not None:
            running_mean.lerp_(mean.to(running_mean.dtype), momentum)
            running_var.lerp_((var * (count / (count - 1))).to(running_var.dtype), momentum)
        ctx.eps, ctx.count = eps, count
        ctx.save_for_backward(x, weight, mean, var)
        return torch.batch_norm(x, weight, bias, mean, var, False, 0.0, eps, False)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, var = ctx.saved_tensors
        _, own_weight, own_bias = torch.ops.aten.native_batch_norm_backward(
            gradient, x, weight, mean, var, None, None, False, ctx.eps, [False, True, True]
        )
        of_weight, of_bias = exchange(torch.stack([own_weight, own_bias])).sum(dim=0) / ctx.count
        # gain * (gradient - of_bias - x_hat * of_weight), with x_hat = (x - mean) / std
        std = (var + ctx.eps).sqrt()
        gain = 1 / std if weight is None else weight / std
        slope = -gain * of_weight / std
        shift = -gain * of_bias - slope * mean
        gain, slope, shift = (each.view(1, -1, *[1] * (x.ndim - 2)) for each in (gain, slope, shift))
        own_x = torch.addcmul(shift, x, slope).addcmul_(gradient, gain)
        learnt = (None, None) if weight is None else (own_weight, own_bias)
        return own_x, *learnt, None, None, None, None, None
