"""The running average of a network's weights."""

import copy

import torch
from torch import nn

from kd_cli.training.weight_average import average_weights


def network() -> nn.Module:
    torch.manual_seed(0)
    made = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    made.register_buffer("index", torch.tensor([3, 1_000_001]))
    return made


def move(current: nn.Module) -> None:
    """Something happens to the weights and to the statistics of batch normalisation."""
    with torch.no_grad():
        for parameter in current.parameters():
            parameter.add_(torch.randn_like(parameter))
        current(torch.randn(8, 3))


def test_average_is_that_of_all_weights_and_statistics() -> None:
    current = network()
    average = average_weights(current, 0.75)
    expected: dict[str, torch.Tensor] = {}
    for step in range(3):
        move(current)
        average.update_parameters(current)
        state = {name: tensor.clone() for name, tensor in current.state_dict().items() if tensor.is_floating_point()}
        expected = {name: 0.75 * expected[name] + 0.25 * state[name] for name in state} if step else state
    found = average.module.state_dict()
    assert any("running_var" in name for name in expected)
    torch.testing.assert_close({name: found[name] for name in expected}, expected)


def test_whole_numbers_are_those_of_the_network() -> None:
    current = network()
    average = average_weights(current, 0.999)
    for _ in range(3):
        move(current)
        average.update_parameters(current)
    found, state = average.module.state_dict(), current.state_dict()
    assert state["1.num_batches_tracked"] == 3
    assert all(torch.equal(found[name], state[name]) for name in ("index", "1.num_batches_tracked"))


def test_the_network_itself_is_left_alone() -> None:
    current = network()
    average = average_weights(current, 0.5)
    move(current)
    before = copy.deepcopy(current.state_dict())
    average.update_parameters(current)
    move(average.module)
    assert all(torch.equal(tensor, before[name]) for name, tensor in current.state_dict().items())
