"""A step that several processes share has the loss and the gradients of the whole batch, whatever is minimised."""

from dataclasses import replace
from itertools import cycle

import pytest
import torch
from torch import Tensor, nn

from kd_cli.config import TrainingConfig
from kd_cli.data.batches import BatchSource
from kd_cli.data.dataset import DataInfo, Dataset, Split
from kd_cli.distillation.methods import METHODS, MethodConfig
from kd_cli.distillation.objective import build_objective
from kd_cli.distillation.teacher_outputs import TeacherOutputs
from kd_cli.networks.classifier import Classifier, build_classifier
from kd_cli.networks.spec import parse_spec
from kd_cli.training.group import GROUP_OF_ONE, Group
from kd_cli.training.loop import Epoch, Training, fit
from kd_cli.training.objective import label_objective
from kd_cli.training.step import make_step
from tests.training.ranks import can_fork, errors_on_ranks, on_ranks

INFO = DataInfo("random", tuple("0123456789"), (3, 12, 12), (0.5,) * 3, (0.3,) * 3, digest="")


@pytest.fixture(scope="module")
def split() -> Split:
    random = torch.Generator().manual_seed(0)
    return Split(torch.randint(256, (23, 3, 12, 12), generator=random, dtype=torch.uint8), torch.arange(23) % 10)


@pytest.fixture(scope="module")
def dataset(split: Split) -> Dataset:
    return Dataset(INFO, split, split)


def make_network(spec: str, seed: int = 0) -> Classifier:
    torch.manual_seed(seed)
    return build_classifier(parse_spec(spec), INFO)


def differentiate(name: str, split: Split, group: Group, augment: tuple[str, ...]) -> dict[str, Tensor]:
    """Loss, terms and gradients of steps on batches of 16 and of 7 images."""
    student = make_network("resnet-8")
    teacher = make_network("resnet-8", seed=1)
    outputs = None if name == "labels" else TeacherOutputs([teacher], split, augment, group=group)
    objective = build_objective(MethodConfig(name), outputs, student, 0)
    compute = make_step(student.train(), objective, group)
    source = BatchSource(split, 16, 0, augment, share=group)
    found: dict[str, Tensor] = {}
    learnt = dict(student.named_parameters())
    if isinstance(objective, nn.Module):
        learnt |= {f"objective's {key}": each for key, each in objective.named_parameters()}
    for number, batch in enumerate(source.epoch()):
        step = compute(batch)
        step.loss.backward()
        terms = {f"term {key}": term.detach() for key, term in step.terms.items()}
        gradients = {f"gradient of {key}": each.grad for key, each in learnt.items() if each.grad is not None}
        parts = {"loss": step.loss.detach(), "logits": step.logits.detach(), **terms, **gradients}
        found |= {f"{name}, batch {number}, {key}": value.clone() for key, value in parts.items()}
        for parameter in learnt.values():
            parameter.grad = None
    return found


@can_fork
@pytest.mark.parametrize(
    "augment",
    [
        pytest.param((), id="outputs looked up"),
        pytest.param(("flip-crop",), id="live teacher", marks=pytest.mark.slow),
    ],
)
def test_every_method_has_the_gradients_of_one_process(split: Split, augment: tuple[str, ...]) -> None:
    def differentiate_all(group: Group) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for name in METHODS:
            found |= differentiate(name, split, group, augment)
        return found

    expected = differentiate_all(GROUP_OF_ONE)
    first, second = on_ranks(2, differentiate_all)
    assert [name for name in first if not torch.equal(first[name], second[name])] == []
    assert first.keys() == expected.keys()
    scale = {name: value.abs().max().clamp_min(1e-3) for name, value in expected.items()}
    wrong = [name for name in first if (first[name] - expected[name]).abs().max() > 1e-3 * scale[name]]
    assert wrong == []


def train(dataset: Dataset, config: TrainingConfig, group: Group, spec: str = "resnet-8") -> Training:
    batches = BatchSource(dataset.train, config.batch_size, config.seed, share=group)
    training = Training(make_network(spec), label_objective, batches, config, group)
    fit(training)
    return training


@can_fork
@pytest.mark.parametrize("batch_size", [11, pytest.param(8, marks=pytest.mark.slow)])
def test_runs_end_with_the_same_weights_in_every_process_and_close_to_those_of_one(
    dataset: Dataset, batch_size: int
) -> None:
    """Of 23 images, the last batch has 7, or 1, which every process shows."""
    config = TrainingConfig(epochs=2, batch_size=batch_size, lr=1e-4)
    expected = train(dataset, config, GROUP_OF_ONE).network.state_dict()
    first, second, third = on_ranks(3, lambda group: train(dataset, config, group).network.state_dict())
    assert first.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(first[name], second[name])
        assert torch.equal(first[name], third[name])
        torch.testing.assert_close(first[name], value, atol=2e-3, rtol=1e-2)


@can_fork
def test_dropout_draws_other_numbers_in_each_process_and_leaves_the_weights_equal(dataset: Dataset) -> None:
    drawn: list[Tensor] = []

    class Dropping(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: Tensor) -> Tensor:
            drawn.append(torch.rand(3))
            logits: Tensor = nn.functional.dropout(self.inner(x), 0.5)
            return logits

    def run(group: Group) -> tuple[Tensor, Tensor]:
        config = TrainingConfig(epochs=1, batch_size=8)
        batches = BatchSource(dataset.train, config.batch_size, config.seed, share=group)
        training = Training(Dropping(make_network("mlp-8")), label_objective, batches, config, group)
        training.run_epoch()
        return torch.cat(drawn), torch.cat([each.detach().flatten() for each in training.network.parameters()])

    alone, _ = run(GROUP_OF_ONE)
    drawn.clear()
    (first, weights), (second, same) = on_ranks(2, run)
    assert torch.equal(first[:3], alone[:3])  # afterwards, the masks of shares are smaller
    assert not torch.equal(first[:3], second[:3])
    assert torch.equal(weights, same)


@can_fork
def test_epochs_report_the_means_over_all_images_in_every_process(dataset: Dataset) -> None:
    config = TrainingConfig(epochs=1, batch_size=8, lr=1e-12)

    def run_epoch(group: Group) -> Epoch:
        batches = BatchSource(dataset.train, config.batch_size, config.seed, share=group)
        epoch = Training(make_network("resnet-8"), label_objective, batches, config, group).run_epoch()
        return replace(epoch, seconds=0.0)

    first, second = on_ranks(2, run_epoch)
    assert first == second
    assert first.loss == pytest.approx(run_epoch(GROUP_OF_ONE).loss, rel=1e-4)


@can_fork
@pytest.mark.parametrize("uses", [(True, False), (False, True)])
def test_a_network_that_leaves_out_a_layer_now_and_then_is_refused(dataset: Dataset, uses: tuple[bool, bool]) -> None:
    class Skipping(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network, self.last, self.uses = make_network("mlp-8"), nn.Linear(10, 10), cycle(uses)

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.network(x)
            return self.last(logits) if next(self.uses) else logits

    def run(group: Group) -> None:
        config = TrainingConfig(epochs=1, batch_size=8)
        batches = BatchSource(dataset.train, config.batch_size, config.seed, share=group)
        Training(Skipping(), label_objective, batches, config, group).run_epoch()

    errors = errors_on_ranks(2, run)
    assert ["does not use the same layers in every step" in error for error in errors] == [True, True]
