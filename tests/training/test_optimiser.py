import copy
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR

from kd_cli.config import OptimiserName, Schedule, TrainingConfig
from kd_cli.training.optimiser import Adam, AdamW, Optimiser, Sgd, learning_rate, make_optimiser

STEPS = 40


def pair() -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 10))
    return network, copy.deepcopy(network)


def backward(network: nn.Module, step: int) -> None:
    random = torch.Generator().manual_seed(step)
    images, labels = torch.randn(8, 20, generator=random), torch.randint(10, (8,), generator=random)
    F.cross_entropy(network(images), labels).backward()


def assert_same(network: nn.Module, expected: nn.Module) -> None:
    for name, tensor in expected.state_dict().items():
        assert torch.equal(network.state_dict()[name], tensor), name


KINDS: list[tuple[type[Optimiser], Callable[..., torch.optim.Optimizer]]] = [
    (Adam, torch.optim.Adam),
    (AdamW, torch.optim.AdamW),
    (Sgd, partial(torch.optim.SGD, momentum=0.9)),
]
NAMES = [ours.__name__ for ours, _ in KINDS]


@pytest.mark.parametrize("fused", [True, False], ids=["one kernel", "kernel by kernel"])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize(("kind", "torchs"), KINDS, ids=NAMES)
def test_optimiser_moves_the_weights_as_torchs_class_does_to_the_bit(
    kind: type[Optimiser], torchs: Callable[..., torch.optim.Optimizer], weight_decay: float, fused: bool
) -> None:
    network, expected = pair()
    ours = kind(list(network.parameters()), weight_decay)
    theirs = torchs(expected.parameters(), lr=0.01, weight_decay=weight_decay, fused=fused)
    ours.fused = fused  # which the device decides
    for step in range(STEPS):
        ours.clear_gradients()
        theirs.zero_grad()
        for each in (network, expected):
            backward(each, step)
        ours.step(0.01)
        theirs.step()
    assert_same(network, expected)


def test_adam_leaves_a_parameter_without_a_gradient_alone() -> None:
    network, before = pair()
    optimiser = Adam(list(network.parameters()))
    backward(network, 0)
    first, *others = network.parameters()
    first.grad = None
    optimiser.step(0.01)
    first_before, *others_before = before.parameters()
    assert torch.equal(first, first_before)
    assert not any(torch.equal(now, then) for now, then in zip(others, others_before, strict=True))


@pytest.mark.parametrize("kind", [ours for ours, _ in KINDS], ids=NAMES)
def test_optimiser_goes_on_from_its_state_as_if_it_had_never_stopped(kind: type[Optimiser]) -> None:
    network, expected = pair()
    unbroken = kind(list(expected.parameters()))
    optimiser = kind(list(network.parameters()))
    for step in range(STEPS):
        if step == STEPS // 2:
            state = copy.deepcopy(optimiser.state_dict())
            optimiser = kind(list(network.parameters()))
            optimiser.load_state_dict(state)
        for each, own in ((network, optimiser), (expected, unbroken)):
            own.clear_gradients()
            backward(each, step)
            own.step(0.01)
    assert_same(network, expected)


@pytest.mark.parametrize(("kind", "named"), [(Adam, "means"), (Sgd, "velocities")])
def test_optimiser_refuses_the_state_of_other_parameters(kind: type[Optimiser], named: str) -> None:
    network, _ = pair()
    state = kind([nn.Parameter(torch.zeros(1)) for _ in network.parameters()]).state_dict()
    with pytest.raises(ValueError, match=named):
        kind(list(network.parameters())).load_state_dict(state)


@pytest.mark.parametrize(
    ("config", "kind", "weight_decay"),
    [
        (TrainingConfig(), Adam, 0.0),
        (TrainingConfig(weight_decay=0.1), Adam, 0.1),
        (TrainingConfig(optimiser=OptimiserName.adamw), AdamW, 0.01),
        (TrainingConfig(optimiser=OptimiserName.adamw, weight_decay=0.0), AdamW, 0.0),
        (TrainingConfig(optimiser=OptimiserName.sgd), Sgd, 0.0),
    ],
)
def test_optimiser_is_the_one_that_is_asked_for(
    config: TrainingConfig, kind: type[Optimiser], weight_decay: float
) -> None:
    made = make_optimiser(config, list(pair()[0].parameters()))
    assert (type(made), made.weight_decay) == (kind, weight_decay)


def rates(schedule: Schedule, steps: int) -> list[float]:
    return [learning_rate(schedule, 0.01, step, steps) for step in range(steps)]


@pytest.mark.parametrize("steps", [1, 2, 3, 10, 997])
def test_schedules_are_torchs(steps: int) -> None:
    optimiser = torch.optim.Adam([nn.Parameter(torch.zeros(1))], lr=0.01)
    one_cycle = OneCycleLR(optimiser, max_lr=0.04, div_factor=4, total_steps=steps + 1, cycle_momentum=False)
    found = []
    for _ in range(steps):
        found.append(one_cycle.get_last_lr()[0])
        optimiser.step()
        one_cycle.step()
    assert rates(Schedule.one_cycle, steps) == pytest.approx(found, rel=1e-9)

    optimiser = torch.optim.Adam([nn.Parameter(torch.zeros(1))], lr=0.01)
    cosine = CosineAnnealingLR(optimiser, T_max=steps)
    found = []
    for _ in range(steps):
        found.append(cosine.get_last_lr()[0])
        optimiser.step()
        cosine.step()
    assert rates(Schedule.cosine, steps) == pytest.approx(found, rel=1e-6)


def test_a_constant_schedule_stays_where_it_is() -> None:
    assert set(rates(Schedule.constant, 10)) == {0.01}
