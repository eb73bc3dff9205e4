"""Batch normalisation over several processes computes what one process computes of the whole batch."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kd_cli.training.group import Group
from tests.training.ranks import can_fork, on_ranks

SHAPES = {"features": (7, 3), "signals": (7, 3, 5), "maps": (7, 3, 4, 4)}


def make(shape: tuple[int, ...], **options: Any) -> tuple[nn.Module, Tensor, Tensor]:
    """A layer with weights of its own, what it takes, and the gradient of what it gives."""
    random = torch.Generator().manual_seed(0)
    kind: Callable[..., nn.Module] = nn.BatchNorm2d if len(shape) == 4 else nn.BatchNorm1d
    layer = kind(3, **options)
    for parameter in layer.parameters():
        nn.init.uniform_(parameter, 0.5, 2, generator=random)
    x = 3 + torch.randn(shape, generator=random)
    return (
        layer,
        x.contiguous(memory_format=torch.channels_last) if len(shape) == 4 else x,
        torch.rand(shape, generator=random),
    )


def pass_through(layer: nn.Module, x: Tensor, gradient: Tensor) -> dict[str, Tensor]:
    """What the layer gives, its gradients, and its state afterwards."""
    x = x.detach().requires_grad_()
    y = layer(x)
    (y * gradient).sum().backward()
    assert x.grad is not None
    learnt = {f"gradient of {name}": each.grad for name, each in layer.named_parameters() if each.grad is not None}
    return {"y": y.detach(), "gradient of x": x.grad, **learnt, **layer.state_dict()}


Case = tuple[str, tuple[int, ...], dict[str, Any]]

CASES: list[Case] = [
    (f"{name} {options}", shape, options)
    for name, shape in SHAPES.items()
    for options in ({}, {"affine": False}, {"momentum": None}, {"track_running_stats": False})
]


@pytest.fixture(scope="module")
def found() -> list[dict[str, dict[str, Tensor]]]:
    """What each of three processes computes of its share, in each case."""

    def normalise(group: Group) -> dict[str, dict[str, Tensor]]:
        from kd_cli.training.batch_norm import whole_batch_statistics

        rows = group.of(7)
        made = {name: make(shape, **options) for name, shape, options in CASES}
        with whole_batch_statistics(group.parts(7)):
            return {name: pass_through(layer, x[rows], g[rows]) for name, (layer, x, g) in made.items()}

    return on_ranks(3, normalise)


@can_fork
@pytest.mark.parametrize(("name", "shape", "options"), CASES, ids=[name for name, *_ in CASES])
def test_several_processes_compute_what_one_does(
    name: str, shape: tuple[int, ...], options: dict[str, Any], found: list[dict[str, dict[str, Tensor]]]
) -> None:
    for what, expected in pass_through(*make(shape, **options)).items():
        parts = [each[name][what] for each in found]
        if what in ("y", "gradient of x"):
            whole = torch.cat(parts)
        else:  # gradients of parameters are summed later, as those of all others
            whole = torch.stack(parts).sum(dim=0) if what.startswith("gradient") else parts[0]
        assert torch.allclose(whole.float(), expected.float(), atol=1e-5, rtol=1e-4), what


@can_fork
def test_a_network_that_is_evaluated_keeps_its_own_statistics() -> None:
    layer, x, _ = make((7, 3, 4, 4))
    layer.eval()

    def normalise(group: Group) -> Tensor:
        from kd_cli.training.batch_norm import whole_batch_statistics

        with whole_batch_statistics(group.parts(7)):
            y: Tensor = layer(x[group.of(7)]).detach()
        return y

    assert torch.equal(torch.cat(on_ranks(2, normalise)), layer(x))


@can_fork
def test_statistics_of_large_values_are_as_precise_as_those_of_one_process() -> None:
    x = 1000 + torch.randn(64, 3, generator=torch.Generator().manual_seed(0))

    def normalise(group: Group) -> Tensor:
        from kd_cli.training.batch_norm import whole_batch_statistics

        with whole_batch_statistics(group.parts(64)):
            return F.batch_norm(x[group.of(64)], None, None, training=True)

    exact = F.batch_norm(x.double(), None, None, training=True).float()
    torch.testing.assert_close(torch.cat(on_ranks(2, normalise)), exact, atol=1e-3, rtol=0)
