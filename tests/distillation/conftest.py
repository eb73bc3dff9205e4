"""A small random data set, a teacher for it, and a loop that trains a student: enough for every method."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from kd_cli.data.batches import Batch, BatchSource
from kd_cli.data.dataset import DataInfo, Split
from kd_cli.distillation.teacher_outputs import TeacherOutputs
from kd_cli.networks.classifier import Classifier, build_classifier
from kd_cli.networks.spec import parse_spec
from kd_cli.training.objective import Objective

INFO = DataInfo("random", tuple("0123456789"), (1, 28, 28), (0.13,), (0.31,), digest="")

MakeClassifier = Callable[..., Classifier]


@pytest.fixture(scope="session")
def split() -> Split:
    random = torch.Generator().manual_seed(0)
    images = torch.randint(256, (192, 1, 28, 28), generator=random, dtype=torch.uint8)
    return Split(images, torch.arange(192) % 10)


@pytest.fixture(scope="session")
def make_classifier() -> MakeClassifier:
    def make(spec: str, seed: int = 0) -> Classifier:
        torch.manual_seed(seed)
        return build_classifier(parse_spec(spec), INFO)

    return make


@pytest.fixture(scope="session")
def teacher(make_classifier: MakeClassifier) -> Classifier:
    return make_classifier("cnn-6", seed=1)


@pytest.fixture(scope="session")
def outputs(teacher: Classifier, split: Split) -> TeacherOutputs:
    return TeacherOutputs([teacher], split)


@pytest.fixture
def batch(split: Split) -> Batch:
    return next(BatchSource(split, 32, seed=0).epoch())


def train(network: nn.Module, objective: Objective, split: Split, epochs: int = 1, batch_size: int = 64) -> None:
    """Plain gradient descent, on normalised gradients because the methods' weights differ by five orders."""
    own = list(objective.parameters()) if isinstance(objective, nn.Module) else []
    parameters = [*network.parameters(), *own]
    optimiser = torch.optim.SGD(parameters, lr=0.01)
    source = BatchSource(split, batch_size, seed=0)
    for _ in range(epochs):
        for batch in source.epoch():
            optimiser.zero_grad()
            objective(network, batch).loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimiser.step()
