"""The random streams of a run, independent of each other by construction."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Seeds:
    """A seed for each thing that a run draws at random, so that none of them can change what another one draws.

    Attributes:
        initialisation: of the network's weights.
        method: of the layers that a distillation method brings.
        order: of the images in each epoch.
        augmentation: of each image.
        negatives: the images that contrastive distillation compares with.
        labels: which images keep their labels.
        layers: what the network's own layers draw while it is trained: dropout, stochastic depth.
    """

    initialisation: int
    method: int
    order: int
    augmentation: int
    negatives: int
    labels: int
    layers: int


def spawn_seeds(seed: int) -> Seeds:
    """The streams of the run with this seed, by numpy's `SeedSequence.spawn`."""
    children = np.random.SeedSequence(seed).spawn(len(Seeds.__dataclass_fields__))
    return Seeds(*(int(child.generate_state(1)[0]) for child in children))


def view_seed(view: int) -> int:
    """The stream that augments a view of all images: the same in every run, so that runs share a teacher's outputs."""
    return int(np.random.SeedSequence(0, spawn_key=(view,)).generate_state(1)[0])
