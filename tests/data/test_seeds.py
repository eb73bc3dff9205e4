"""Random streams: different for each purpose and each seed, and none of them changes what another one draws."""

from dataclasses import asdict

import numpy as np
import pytest
import torch

from kd_cli.data.seeds import spawn_seeds


def test_each_purpose_of_each_seed_has_a_stream_of_its_own() -> None:
    seeds = [value for seed in range(100) for value in asdict(spawn_seeds(seed)).values()]
    assert len(set(seeds)) == len(seeds) == 700


def test_same_seed_gives_the_same_streams() -> None:
    assert spawn_seeds(7) == spawn_seeds(7)


@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1])
def test_streams_can_seed_torch_and_numpy(seed: int) -> None:
    for value in asdict(spawn_seeds(seed)).values():
        torch.Generator().manual_seed(value)
        np.random.RandomState(value)  # what scikit-learn makes of a random_state: it takes less than torch does


def test_streams_are_not_correlated_across_purposes_and_seeds() -> None:
    streams = [
        torch.rand(2000, generator=torch.Generator().manual_seed(value))
        for seed in range(4)
        for value in asdict(spawn_seeds(seed)).values()
    ]
    correlations = torch.corrcoef(torch.stack(streams)) - torch.eye(len(streams))
    assert correlations.abs().max() < 0.1  # four and a half standard deviations, of 276 pairs
