"""Every method with networks that know nothing of it: colour images, odd numbers of classes, layers by name."""

from typing import Any

import pytest
import torch
from torch import nn

from kd_cli.config import KdError
from kd_cli.data.batches import Batch, BatchSource
from kd_cli.data.dataset import DataInfo, Split
from kd_cli.distillation.methods import METHODS, MethodConfig
from kd_cli.distillation.objective import Distillation, build_objective
from kd_cli.distillation.teacher_outputs import TeacherOutputs
from kd_cli.networks.classifier import Classifier, build_classifier
from kd_cli.networks.spec import parse_spec
from kd_cli.training.objective import Step
from tests.distillation.conftest import train
from tests.networks.foreign import Residual

SHAPE = (3, 14, 20)
DISTILLATIONS = [name for name in METHODS if name != "labels"]
READERS = [name for name in DISTILLATIONS if METHODS[name].reads_features]
PLACE_BY_PLACE = ["fitnet", "vid"]


def make(kind: str, classes: int = 37) -> Classifier:
    torch.manual_seed(len(kind))
    if kind == "foreign":
        return Classifier(Residual(classes), (0.5,) * 3, (0.25,) * 3, SHAPE)
    if kind == "tokens":
        layers = (nn.Flatten(2), nn.Linear(280, 6), nn.Flatten(), nn.Linear(18, classes))
        return Classifier(nn.Sequential(*layers), (0.5,) * 3, (0.25,) * 3, SHAPE)
    info = DataInfo("colours", tuple(map(str, range(classes))), SHAPE, (0.5,) * 3, (0.25,) * 3, digest="")
    return build_classifier(parse_spec(kind), info)


def split_of(classes: int) -> Split:
    images = torch.randint(256, (24, *SHAPE), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return Split(images, torch.arange(24) * 7 % classes)


def objective_for(config: MethodConfig, student: Classifier, teacher: Classifier, split: Split) -> Distillation:
    objective = build_objective(config, TeacherOutputs([teacher], split), student, 0)
    assert isinstance(objective, Distillation)
    return objective


def step(config: MethodConfig, student: Classifier, teacher: Classifier, classes: int = 37) -> Step:
    """One step of the teacher's term, backwards included."""
    split = split_of(classes)
    batch: Batch = next(BatchSource(split, 8, seed=0).epoch())
    made: Step = objective_for(config, student.train(), teacher, split)(student, batch)
    made.terms["teacher"].backward()
    return made


def reached(student: nn.Module) -> bool:
    return any(p.grad is not None and p.grad.isfinite().all() and bool(p.grad.any()) for p in student.parameters())


@pytest.mark.parametrize("student", ["foreign", "resnet-8", "cnn-4", "mlp-8"])
@pytest.mark.parametrize("name", DISTILLATIONS)
def test_every_method_that_can_learns_from_a_foreign_teacher(name: str, student: str) -> None:
    own = make(student)
    if (name, student) == ("at", "mlp-8"):
        with pytest.raises(KdError, match=r"--student-layer: no layer of the network gives maps"):
            step(MethodConfig(name), own, make("foreign"))
        return
    assert step(MethodConfig(name), own, make("foreign")).loss.isfinite()
    assert reached(own)


@pytest.mark.parametrize("classes", [2, 1000])
@pytest.mark.parametrize("name", DISTILLATIONS)
def test_every_method_works_with_any_number_of_classes(name: str, classes: int) -> None:
    student = make("foreign", classes)
    assert step(MethodConfig(name), student, make("cnn-4", classes), classes).loss.isfinite()
    assert reached(student)


class TestNamedLayers:
    @pytest.mark.parametrize("name", READERS)
    def test_of_maps_with_other_sizes_are_compared(self, name: str) -> None:
        """8 channels of 14x20 with 16 of 7x10, and 16 of 7x10 with 4 of 14x20."""
        for layers in (("layer1", "layer2"), ("layer2", "stem")):
            student = make("foreign")
            assert step(MethodConfig(name, None, None, None, None, *layers), student, make("foreign")).loss.isfinite()
            assert reached(student)
            assert student.network.fc.weight.grad is None  # type: ignore[union-attr]

    @pytest.mark.parametrize("name", [name for name in READERS if name != "at"])
    def test_of_tokens_are_compared(self, name: str) -> None:
        config = MethodConfig(name, student_layer="1", teacher_layer="1")
        assert step(config, make("tokens"), make("tokens")).loss.isfinite()

    @pytest.mark.parametrize("name", [name for name in READERS if name not in ("at", *PLACE_BY_PLACE)])
    def test_of_different_kinds_are_compared_where_only_the_images_relations_count(self, name: str) -> None:
        config = MethodConfig(name, student_layer="layer1", teacher_layer="fc1")
        assert step(config, make("foreign"), make("cnn-4")).loss.isfinite()

    @pytest.mark.parametrize("name", PLACE_BY_PLACE)
    def test_of_different_kinds_cannot_be_compared_place_by_place(self, name: str) -> None:
        config = MethodConfig(name, student_layer="layer1", teacher_layer="fc1")
        with pytest.raises(KdError, match=r"gives \(8, 14, 20\).* the teacher's \(128,\): use --student-layer"):
            step(config, make("foreign"), make("cnn-4"))

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"student_layer": "layer9"}, r"--student-layer: the network has no layer 'layer9': did you mean layer"),
            ({"teacher_layer": "layer9"}, r"--teacher-layer: .* kd list layers SPEC"),
            ({"student_layer": "fc"}, r"at compares maps .* the student's fc gives \(37,\): use another --student-lay"),
        ],
    )
    def test_that_do_not_do_are_refused_before_the_teacher_computes(self, options: Any, message: str) -> None:
        teacher, images = make("foreign"), [0]
        teacher.register_forward_pre_hook(lambda _, inputs: images.append(len(inputs[0])))
        with pytest.raises(KdError, match=message):
            build_objective(MethodConfig("at", **options), TeacherOutputs([teacher], split_of(37)), make("foreign"), 0)
        assert max(images) <= 1  # to find the layers

    @pytest.mark.parametrize("name", PLACE_BY_PLACE)
    def test_have_a_regressor_that_is_part_of_the_state_and_learns(self, name: str) -> None:
        config = MethodConfig(name, student_layer="layer1", teacher_layer="layer2")
        student, split = make("foreign"), split_of(37)
        objective = objective_for(config, student, make("foreign"), split)
        before = {key: value.clone() for key, value in objective.state_dict().items()}
        assert any(value.shape == (16, 8) for value in before.values())  # a 1x1 convolution
        train(student, objective, split, batch_size=8)
        assert not any(torch.equal(before[key], value) for key, value in objective.state_dict().items())
