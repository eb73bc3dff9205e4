"""Teachers' outputs: each belongs to its image, and to what the image looks like at that moment."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from kd_cli.data.batches import Batch, BatchSource
from kd_cli.data.dataset import Split
from kd_cli.distillation import teacher_outputs
from kd_cli.distillation.output_cache import OutputCache, describe
from kd_cli.distillation.teacher_outputs import TeacherOutputs, average_logits
from kd_cli.networks.classifier import Classifier
from kd_cli.networks.features import Layer
from kd_cli.training.group import GROUP_OF_ONE, Group
from tests.distillation.conftest import MakeClassifier
from tests.training.ranks import can_fork, on_ranks

AUGMENTED: list[tuple[str, ...]] = [(), ("shift",), ("warp",), ("flip-crop", "resized-crop")]
LAYERS = [Layer("fc1"), Layer("conv1")]


@pytest.fixture
def three(make_classifier: MakeClassifier) -> list[Classifier]:
    return [make_classifier(spec, seed) for spec, seed in (("cnn-6", 1), ("cnn-6", 2), ("mlp-12", 3))]


class Counter:
    """Counts the images that a classifier is asked about."""

    def __init__(self, classifier: Classifier) -> None:
        self.images = 0
        self.handle = classifier.register_forward_hook(self._count)

    def _count(self, classifier: object, inputs: tuple[Tensor], logits: Tensor) -> None:
        self.images += len(logits)


@pytest.fixture
def counter(teacher: Classifier) -> Iterator[Counter]:
    counter = Counter(teacher)
    yield counter
    counter.handle.remove()


def test_every_image_has_its_own_logits_under_shuffling(teacher: Classifier, split: Split) -> None:
    logits = TeacherOutputs([teacher], split).logits(4.0)
    source = BatchSource(split, 50, seed=5)
    for _ in range(2):
        for batch in source.epoch():
            torch.testing.assert_close(logits(batch), teacher(batch.images).detach())


@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_every_image_has_its_own_features_under_shuffling(layer: Layer, teacher: Classifier, split: Split) -> None:
    features = TeacherOutputs([teacher], split).features(layer)
    for batch in BatchSource(split, 50, seed=5).epoch():
        expected = teacher.forward_features(batch.images)[layer.name]
        torch.testing.assert_close(features(batch), expected.detach())


@pytest.mark.parametrize("augment", AUGMENTED)
@pytest.mark.parametrize("views", [0, 1, 3])
@pytest.mark.parametrize("layer", [None, *LAYERS], ids=str)
def test_outputs_belong_to_the_image_as_it_is_shown(
    augment: tuple[str, ...], views: int, layer: Layer | None, teacher: Classifier, split: Split
) -> None:
    """Outputs for the image as it is on disk, or of another view, would be stale, and nothing would fail."""
    own = TeacherOutputs([teacher], split, augment, views)
    outputs = own.logits(4.0) if layer is None else own.features(layer)
    source = BatchSource(split, 50, seed=0, presets=augment, views=views)
    for _ in range(4):  # the last one shows the first view again
        for batch in source.epoch():
            expected = teacher.forward_features(batch.images)[layer.name if layer else "fc2"]
            torch.testing.assert_close(outputs(batch), expected.detach())


@pytest.mark.parametrize("augment", AUGMENTED[1:])
def test_views_are_computed_once(augment: tuple[str, ...], teacher: Classifier, split: Split, counter: Counter) -> None:
    outputs = TeacherOutputs([teacher], split, augment, views=3).logits(4.0)
    asked = counter.images
    assert 3 * len(split) <= asked <= 3 * len(split) + 1
    source = BatchSource(split, 50, seed=0, presets=augment, views=3)
    for _ in range(4):
        for batch in source.epoch():
            outputs(batch)
    assert counter.images == asked


@pytest.mark.parametrize(
    ("augment", "views", "words"),
    [
        ((), 0, "computed once"),
        (("warp",), 0, "live"),
        (("warp",), 1, "computed once for 1 view of each image"),
        (("warp",), 4, "computed once for 4 views of each image"),
    ],
)
def test_outputs_say_how_they_come_about(
    augment: tuple[str, ...], views: int, words: str, teacher: Classifier, split: Split
) -> None:
    assert str(TeacherOutputs([teacher], split, augment, views).logits(4.0)) == words


def test_a_teacher_computes_its_logits_once_for_each_image(teacher: Classifier, split: Split, counter: Counter) -> None:
    own = TeacherOutputs([teacher], split)
    first, second = own.logits(4.0), own.logits(2.0)  # of one teacher they are the same at every temperature
    asked = counter.images
    for outputs in (first, second):
        for batch in BatchSource(split, 50, seed=0).epoch():
            outputs(batch)
    assert counter.images == asked
    assert len(split) <= asked <= len(split) + 1  # one to see how large an output is


def test_outputs_too_large_to_keep_are_computed_for_each_batch(
    teacher: Classifier, split: Split, counter: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(teacher_outputs, "MEMORY_BYTES", len(split) * 10 * 4 - 1)
    logits = TeacherOutputs([teacher], split).logits(4.0)
    assert counter.images <= 1
    for batch in BatchSource(split, 50, seed=0).epoch():
        torch.testing.assert_close(logits(batch), teacher(batch.images).detach())


@pytest.mark.parametrize("augment", [(), ("shift",)], ids=["known", "live"])
def test_outputs_carry_no_gradients(augment: tuple[str, ...], teacher: Classifier, split: Split, batch: Batch) -> None:
    own = TeacherOutputs([teacher], split, augment)
    assert not own.logits(4.0)(batch).requires_grad
    assert not own.features(Layer("conv1"))(batch).requires_grad


def test_teachers_are_in_evaluation_mode(make_classifier: MakeClassifier, split: Split) -> None:
    classifier = make_classifier("mlp-8").train()
    TeacherOutputs([classifier], split)
    assert not any(module.training for module in classifier.modules())


@pytest.mark.parametrize("augment", [(), ("shift",)], ids=["known", "live"])
def test_several_teachers_are_averaged_at_the_temperature_asked_for(
    augment: tuple[str, ...], three: list[Classifier], split: Split, batch: Batch
) -> None:
    own = TeacherOutputs(three, split, augment)
    for temperature in (1.0, 4.0, None):
        expected = average_logits(three, batch.images, temperature).detach()
        torch.testing.assert_close(own.logits(temperature)(batch), expected)


def test_features_of_several_teachers_are_refused(three: list[Classifier], split: Split) -> None:
    with pytest.raises(ValueError, match="features of several teachers"):
        TeacherOutputs(three, split).features(Layer("fc1"))


class TestAverages:
    @pytest.mark.parametrize("temperature", [1.0, 4.0])
    def test_are_of_softened_probabilities(self, three: list[Classifier], batch: Batch, temperature: float) -> None:
        averaged = (average_logits(three, batch.images, temperature) / temperature).softmax(dim=1)
        expected = torch.stack([(each(batch.images) / temperature).softmax(dim=1) for each in three]).mean(dim=0)
        torch.testing.assert_close(averaged, expected)

    def test_are_of_logits_without_a_temperature(self, three: list[Classifier], batch: Batch) -> None:
        expected = torch.stack([each(batch.images) for each in three]).mean(dim=0)
        torch.testing.assert_close(average_logits(three, batch.images, None), expected)


@can_fork
@pytest.mark.parametrize("views", [0, 2])
def test_several_processes_have_the_outputs_of_one_and_the_first_one_keeps_them(
    views: int, teacher: Classifier, split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(teacher_outputs, "MACS_WORTH_KEEPING", 0)
    augment = ("warp",) if views else ()

    def prepare(folder: Path, group: Group) -> tuple[int, Tensor]:
        """How many images the teacher was shown, and its outputs for the first batch."""
        counter = Counter(teacher)
        outputs = TeacherOutputs([teacher], split, augment, views, OutputCache(folder, {}), group=group).logits(4.0)
        counter.handle.remove()
        return counter.images, outputs(next(BatchSource(split, 50, 0, augment, views, group).epoch()))

    alone, expected = prepare(tmp_path / "alone", GROUP_OF_ONE)
    for found in (False, True):
        ranks = on_ranks(2, lambda group: prepare(tmp_path / "together", group))
        for rank, (shown, outputs) in enumerate(ranks):
            torch.testing.assert_close(outputs, expected)
            looked_at = teacher_outputs.COMPARED * max(views, 1) if rank == 0 else 0
            computed = 0 if found else len(split) // 2 * max(views, 1)
            assert shown == 1 + looked_at + computed
    assert alone == 1 + (teacher_outputs.COMPARED + len(split)) * max(views, 1)
    assert describe(tmp_path / "together").files == max(views, 1)
