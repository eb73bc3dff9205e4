"""Batch normalisation over several processes computes what one process computes of the whole batch."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kd_cli.training.group import Group
from tests.training.ranks import can_fork, errors_on_ranks, on_ranks

SHAPES = {"features": (7, 3), "signals": (7, 3, 5), "maps": (7, 3, 4, 4)}


def make(shape: tuple[int, ...], **options: Any) -> tuple[nn.Module, Tensor, Tensor]:
    """A layer with weights of its own, what it takes, and the gradient of what it gives."""
    random = torch.Generator().manual_seed(0)
    kind: Callable[..., nn.Module] = nn.BatchNorm2d if len(shape) == 4 else nn.BatchNorm1d
    layer = kind(3, **options)
    for parameter in layer.parameters():
        nn.init.uniform_(parameter, 0.5, 2, generator=random)
    x = 3 + torch.randn(shape, generator=random)
    return layer, x.contiguous(memory_format=torch.channels_last) if len(shape) == 4 else x, torch.rand(shape)


def pass_through(layer: nn.Module, x: Tensor, gradient: Tensor) -> dict[str, Tensor]:
    """What the layer gives, its gradients, and its state afterwards."""
    x = x.detach().requires_grad_()
    y = layer(x)
    (y * gradient).sum().backward()
    assert x.grad is not None
    learnt = {f"gradient of {name}": each.grad for name, each in layer.named_parameters() if each.grad is not None}
    return {"y": y.detach(), "gradient of x": x.grad, **learnt, **layer.state_dict()}


@can_fork
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize(
    "options", [{}, {"affine": False}, {"momentum": None}, {"track_running_stats": False}], ids=str
)
def test_several_processes_compute_what_one_does(shape: tuple[int, ...], options: dict[str, Any]) -> None:
    layer, x, gradient = make(shape, **options)
    expected = pass_through(layer, x, gradient)

    def normalise(group: Group) -> dict[str, Tensor]:
        from kd_cli.training.batch_norm import WholeBatchStatistics

        own, rows = make(shape, **options)[0], group.of(len(x))
        with WholeBatchStatistics():
            return pass_through(own, x[rows], gradient[rows])

    found = on_ranks(3, normalise)
    for name, value in expected.items():
        parts = [each[name] for each in found]
        if name in ("y", "gradient of x"):
            whole = torch.cat(parts)
        else:  # gradients of parameters are summed later, as those of all others
            whole = torch.stack(parts).sum(dim=0) if name.startswith("gradient") else parts[0]
        assert torch.allclose(whole.float(), value.float(), atol=1e-5, rtol=1e-4), name


@can_fork
def test_a_network_that_is_evaluated_keeps_its_own_statistics() -> None:
    layer, x, _ = make((7, 3, 4, 4))
    layer.eval()

    def normalise(group: Group) -> Tensor:
        from kd_cli.training.batch_norm import WholeBatchStatistics

        with WholeBatchStatistics():
            y: Tensor = layer(x[group.of(7)]).detach()
        return y

    assert torch.equal(torch.cat(on_ranks(2, normalise)), layer(x))


@can_fork
def test_statistics_of_large_values_are_as_precise_as_those_of_one_process() -> None:
    x = 1000 + torch.randn(64, 3, generator=torch.Generator().manual_seed(0))

    def normalise(group: Group) -> Tensor:
        from kd_cli.training.batch_norm import WholeBatchStatistics

        with WholeBatchStatistics():
            return F.batch_norm(x[group.of(64)], None, None, training=True)

    exact = F.batch_norm(x.double(), None, None, training=True).float()
    torch.testing.assert_close(torch.cat(on_ranks(2, normalise)), exact, atol=1e-3, rtol=0)


@can_fork
def test_one_value_in_all_is_refused_as_torch_does() -> None:
    def normalise(group: Group) -> Tensor:
        from kd_cli.training.batch_norm import WholeBatchStatistics

        with WholeBatchStatistics():
            return F.batch_norm(torch.ones(1 - group.rank, 3), None, None, training=True)

    assert all("more than 1 value per channel" in error for error in errors_on_ranks(2, normalise))
