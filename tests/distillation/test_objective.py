"""What a method makes of a student: the loss that it minimises, the layers that it reaches, and where it starts."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kd_cli.data.batches import Batch
from kd_cli.data.dataset import Split, to_pixels
from kd_cli.data.labels import NO_LABEL
from kd_cli.distillation import losses, projections
from kd_cli.distillation.methods import FROM_LABELS, METHODS, FeatureLevel, Method, MethodConfig
from kd_cli.distillation.objective import build_objective
from kd_cli.distillation.teacher_outputs import TeacherOutputs, average_logits
from kd_cli.networks.classifier import Classifier
from kd_cli.networks.features import find_penultimate
from kd_cli.training.objective import Step, label_objective
from tests.distillation.conftest import MakeClassifier, train

DISTILLATIONS = [name for name in METHODS if name != "labels"]
WITH_LAYERS = ["fitnet", "vid", "crd"]
REACHED = {
    FeatureLevel.logits: {"network.conv1", "network.fc1", "network.fc2"},
    FeatureLevel.penultimate: {"network.conv1", "network.fc1"},
    FeatureLevel.maps: {"network.conv1"},
}
"""The layers of a cnn-N that a loss at this level can change."""


@pytest.fixture
def student(make_classifier: MakeClassifier) -> Classifier:
    return make_classifier("cnn-4")


def parameters_of(module: Any) -> dict[str, Tensor]:
    return dict(module.named_parameters()) if isinstance(module, nn.Module) else {}


def copied(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def assert_equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    assert a.keys() == b.keys()
    assert [name for name in a if not torch.equal(a[name], b[name])] == []


@pytest.mark.parametrize("name", DISTILLATIONS)
class TestEveryMethod:
    def test_minimises_the_sum_of_its_terms(
        self, name: str, outputs: TeacherOutputs, student: Classifier, batch: Batch
    ) -> None:
        step = build_objective(MethodConfig(name), outputs, student, 0)(student, batch)
        torch.testing.assert_close(step.loss, torch.stack(list(step.terms.values())).sum())
        torch.testing.assert_close(step.logits, student(batch.images))

    def test_adds_the_labels_with_their_weight(
        self, name: str, outputs: TeacherOutputs, student: Classifier, batch: Batch
    ) -> None:
        config = MethodConfig(name)
        terms = build_objective(config, outputs, student, 0)(student, batch).terms
        if config.label_weight == 0:
            assert terms.keys() == {"teacher"}
        else:
            expected = config.label_weight * F.cross_entropy(student(batch.images), batch.labels)
            torch.testing.assert_close(terms["labels"], expected)

    def test_changes_the_layers_up_to_where_it_reads_and_no_others(
        self, name: str, outputs: TeacherOutputs, student: Classifier, batch: Batch
    ) -> None:
        build_objective(MethodConfig(name), outputs, student, 0)(student, batch).terms["teacher"].backward()
        reached = {key.rsplit(".", 1)[0] for key, p in student.named_parameters() if p.grad is not None}
        assert reached == REACHED[METHODS[name].reads]
        assert all(p.grad.isfinite().all() and p.grad.any() for p in student.parameters() if p.grad is not None)

    def test_brings_the_student_nearer_to_the_teacher(
        self, name: str, outputs: TeacherOutputs, student: Classifier, batch: Batch
    ) -> None:
        """Following the teacher's term alone makes that term smaller."""
        if name == "crd":
            pytest.skip("its term changes with its memory of past batches: see TestContrast")
        objective = build_objective(MethodConfig(name), outputs, student, 0)
        optimiser = torch.optim.Adam([*student.parameters(), *parameters_of(objective).values()], lr=1e-3)
        values = []
        for _ in range(30):
            optimiser.zero_grad()
            term = objective(student, batch).terms["teacher"]
            term.backward()
            optimiser.step()
            values.append(term.item())
        assert sum(values[-3:]) < sum(values[:3])

    def test_trains_the_same_weights_from_the_same_seed(
        self, name: str, outputs: TeacherOutputs, split: Split, make_classifier: MakeClassifier
    ) -> None:
        trained = []
        for global_seed in (1, 2):
            network = make_classifier("cnn-4")
            torch.manual_seed(global_seed)  # what is drawn elsewhere makes no difference
            objective = build_objective(MethodConfig(name), outputs, network, 7)
            train(network, objective, split)
            trained.append(parameters_of(network) | parameters_of(objective))
        assert_equal(*trained)

    def test_starts_from_the_student_that_it_is_given(
        self, name: str, outputs: TeacherOutputs, student: Classifier
    ) -> None:
        """And leaves the global random stream where it is: what is drawn next does not depend on the method."""
        before, stream = copied(student.state_dict()), torch.get_rng_state()
        build_objective(MethodConfig(name), outputs, student, 0)
        assert_equal(before, student.state_dict())
        assert torch.equal(stream, torch.get_rng_state())

    def test_leaves_the_teacher_as_it_is(
        self, name: str, outputs: TeacherOutputs, student: Classifier, split: Split
    ) -> None:
        teacher = outputs.classifiers[0]
        before = copied(teacher.state_dict())
        objective = build_objective(MethodConfig(name), outputs, student, 0)
        train(student, objective, split)
        assert_equal(before, teacher.state_dict())
        assert all(parameter.grad is None for parameter in teacher.parameters())
        assert not {id(p) for p in teacher.parameters()} & {id(p) for p in parameters_of(objective).values()}

    def test_trains_all_layers_of_its_own(
        self, name: str, outputs: TeacherOutputs, student: Classifier, split: Split
    ) -> None:
        objective = build_objective(MethodConfig(name), outputs, student, 0)
        before = copied(parameters_of(objective))
        assert bool(before) == (name in WITH_LAYERS)
        train(student, objective, split)
        assert [key for key, value in parameters_of(objective).items() if torch.equal(before[key], value)] == []

    def test_takes_a_last_batch_of_one_image(
        self, name: str, outputs: TeacherOutputs, student: Classifier, split: Split
    ) -> None:
        train(student, build_objective(MethodConfig(name), outputs, student, 0), split, batch_size=191)
        assert all(parameter.isfinite().all() for parameter in student.parameters())


class TestWeights:
    @pytest.mark.parametrize("name", [name for name in DISTILLATIONS if "weight" in METHODS[name].options])
    def test_the_weight_multiplies_the_teachers_term(
        self, name: str, outputs: TeacherOutputs, student: Classifier, batch: Batch
    ) -> None:
        def term(**options: Any) -> Tensor:
            config = MethodConfig(name, **options)
            return build_objective(config, outputs, student, 0)(student, batch).terms["teacher"]

        if "beta" in METHODS[name].options:
            torch.testing.assert_close(term(weight=6, beta=3), 2 * term(weight=3, beta=1.5))
        else:
            torch.testing.assert_close(term(weight=6), 2 * term(weight=3))

    @pytest.mark.parametrize(
        ("name", "parts"),
        [
            ("dkd", lambda s, t, labels: losses.decoupled_losses(s, t, labels, 4.0)),
            ("dist", lambda s, t, labels: losses.relation_losses(s, t, 4.0)),
            ("rkd", lambda s, t, labels: losses.relational_losses(s, t)),
        ],
    )
    def test_weight_multiplies_the_first_of_two_terms_and_beta_the_second(
        self, name: str, parts: Any, outputs: TeacherOutputs, student: Classifier, batch: Batch
    ) -> None:
        step = build_objective(MethodConfig(name, weight=3, beta=5), outputs, student, 0)(student, batch)
        read = [
            find_penultimate(each, batch.images).read(each, batch.images)[0 if name == "rkd" else 1]
            for each in (student, outputs.classifiers[0])
        ]
        first, second = parts(*read, batch.labels)
        torch.testing.assert_close(step.terms["teacher"], 3 * first + 5 * second)

    def test_alpha_weighs_the_teacher_against_the_labels(
        self, outputs: TeacherOutputs, student: Classifier, batch: Batch
    ) -> None:
        config = MethodConfig("kd", alpha=0.25, temperature=3)
        step = build_objective(config, outputs, student, 0)(student, batch)
        logits, targets = student(batch.images), outputs.classifiers[0](batch.images).detach()
        kl = torch.distributions.kl_divergence(
            *(torch.distributions.Categorical(logits=each / 3) for each in (targets, logits))
        ).mean()
        expected = 0.25 * 9 * kl + 0.75 * F.cross_entropy(logits, batch.labels)
        torch.testing.assert_close(step.loss, expected, rtol=1e-4, atol=1e-6)
        parameters = list(student.parameters())
        found = torch.autograd.grad(step.loss, parameters)
        torch.testing.assert_close(found, torch.autograd.grad(expected, parameters), rtol=1e-4, atol=1e-6)

    def test_kd_at_temperature_1_and_alpha_1_is_plain_kl(
        self, outputs: TeacherOutputs, student: Classifier, batch: Batch
    ) -> None:
        kd, kl = (
            build_objective(config, outputs, student, 0)(student, batch)
            for config in (MethodConfig("kd", alpha=1, temperature=1), MethodConfig("kl"))
        )
        assert kd.terms.keys() == kl.terms.keys() == {"teacher"}
        assert torch.equal(kd.loss, kl.loss)


class TestTheBaseline:
    @pytest.mark.parametrize("config", [FROM_LABELS, MethodConfig("kd", alpha=0)])
    def test_is_trained_with_labels_alone(
        self, config: MethodConfig, outputs: TeacherOutputs, student: Classifier
    ) -> None:
        assert build_objective(config, None, student, 0) is label_objective
        assert build_objective(config, outputs, student, 0) is label_objective

    def test_is_not_what_a_method_without_a_teacher_becomes(self, student: Classifier) -> None:
        with pytest.raises(ValueError, match="kd needs the outputs of a teacher"):
            build_objective(MethodConfig("kd"), None, student, 0)


class TestLayersOfTheirOwn:
    @pytest.mark.parametrize("name", WITH_LAYERS)
    def test_start_elsewhere_with_another_seed(self, name: str, outputs: TeacherOutputs, student: Classifier) -> None:
        first, second = (parameters_of(build_objective(MethodConfig(name), outputs, student, seed)) for seed in (0, 1))
        weights = [key for key in first if first[key].ndim == 2]
        assert weights
        assert not any(torch.equal(first[key], second[key]) for key in weights)

    @pytest.mark.parametrize("name", WITH_LAYERS)
    def test_are_part_of_the_state_that_a_resumed_run_needs(
        self, name: str, outputs: TeacherOutputs, student: Classifier, batch: Batch, split: Split
    ) -> None:
        objectives = [build_objective(MethodConfig(name), outputs, student, seed) for seed in (0, 1)]
        assert all(isinstance(each, nn.Module) for each in objectives)
        train(student, objectives[0], split)
        objectives[1].load_state_dict(objectives[0].state_dict())  # type: ignore[attr-defined]
        first, second = (each(student, batch).loss for each in objectives)
        assert torch.equal(first, second)

    def test_leave_a_network_with_normalisation_layers_as_it_is(self, outputs: TeacherOutputs) -> None:
        module: Any = Normalised()
        network = Classifier(module, (0.13,), (0.31,), (1, 28, 28)).train()
        before = copied(network.state_dict())
        build_objective(MethodConfig("fitnet"), outputs, network, 0)
        assert_equal(before, network.state_dict())
        assert network.training


class Normalised(nn.Module):
    """A student whose layers depend on the batch while it is trained."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.norm, self.last = nn.Linear(784, 6), nn.BatchNorm1d(6), nn.Linear(6, 10)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.last(self.norm(self.hidden(x.flatten(1))))
        return logits


class TestSeveralTeachers:
    @pytest.fixture
    def three(self, make_classifier: MakeClassifier) -> list[Classifier]:
        return [make_classifier(spec, seed) for spec, seed in (("cnn-6", 1), ("cnn-6", 2), ("mlp-12", 3))]

    @pytest.mark.parametrize(
        ("config", "averaged_at", "loss"),
        [
            (MethodConfig("kd", temperature=3, alpha=1), 3.0, lambda s, t: losses.soft_target_loss(s, t, 3.0)),
            (MethodConfig("kl"), 1.0, losses.soft_target_loss),
            (MethodConfig("mse"), None, losses.logit_matching_loss),
        ],
        ids=str,
    )
    def test_are_averaged_as_the_method_compares_them(
        self,
        config: MethodConfig,
        averaged_at: float | None,
        loss: Any,
        three: list[Classifier],
        student: Classifier,
        split: Split,
        batch: Batch,
    ) -> None:
        step = build_objective(config, TeacherOutputs(three, split), student, 0)(student, batch)
        expected = loss(student(batch.images), average_logits(three, batch.images, averaged_at))
        torch.testing.assert_close(step.terms["teacher"], expected)


class TestUnlabelledImages:
    def step(
        self, labels: Tensor, config: MethodConfig, teacher: Classifier, student: Classifier, split: Split
    ) -> Step:
        """A step on the first eight images of a split with these labels."""
        own = TeacherOutputs([teacher], Split(split.images, labels))
        batch = Batch(to_pixels(split.images[:8]), labels[:8], torch.arange(8))
        return build_objective(config, own, student, 0)(student, batch)

    @pytest.mark.parametrize("name", ["kd", "dist", "rkd"])
    def test_add_nothing_to_the_loss_of_the_labels(
        self, name: str, teacher: Classifier, student: Classifier, split: Split
    ) -> None:
        labels = split.labels.clone()
        labels[2:] = NO_LABEL
        config = MethodConfig(name)
        step = self.step(labels, config, teacher, student, split)
        expected = F.cross_entropy(student(to_pixels(split.images[:2])), labels[:2])
        torch.testing.assert_close(step.terms["labels"], config.label_weight * expected)

    @pytest.mark.parametrize("name", ["kd", "dist", "rkd"])
    def test_leave_the_teacher_alone_where_a_batch_has_no_label(
        self, name: str, teacher: Classifier, student: Classifier, split: Split
    ) -> None:
        step = self.step(torch.full_like(split.labels, NO_LABEL), MethodConfig(name), teacher, student, split)
        assert step.terms["labels"] == 0
        assert torch.equal(step.loss, step.terms["teacher"])
        step.loss.backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in student.parameters())


class TestANewMethod:
    """Its row, and its function or module: nothing else needs to know of it."""

    def test_of_logits_is_a_row_and_a_function(
        self,
        outputs: TeacherOutputs,
        student: Classifier,
        split: Split,
        batch: Batch,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        def absolute_losses(s: Tensor, t: Tensor, labels: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
            return (s - t).abs().mean() / temperature, s.gather(1, labels[:, None]).square().mean()

        options = {"temperature": 2, "weight": 3, "beta": 0.5}
        row = Method("ours", "", "", FeatureLevel.logits, 0.25, "absolute_losses", options, needs_labels=True)
        monkeypatch.setitem(METHODS, "absolute", row)
        monkeypatch.setattr(losses, "absolute_losses", absolute_losses, raising=False)
        config = MethodConfig("absolute", beta=1)
        assert str(config) == "absolute (T 2, weight 3, beta 1)"
        objective = build_objective(config, outputs, student, 0)
        logits, targets = student(batch.images), outputs.classifiers[0](batch.images)
        first, second = absolute_losses(logits, targets, batch.labels, 2.0)
        expected = 3 * first + second + 0.25 * F.cross_entropy(logits, batch.labels)
        before = objective(student, batch).loss
        torch.testing.assert_close(before, expected)
        train(student, objective, split, epochs=3)
        assert objective(student, batch).loss < before

    def test_with_layers_of_its_own_is_a_row_and_a_module(
        self,
        outputs: TeacherOutputs,
        student: Classifier,
        split: Split,
        batch: Batch,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        class Scale(nn.Module):
            def __init__(self, sizes: projections.FeatureSizes) -> None:
                super().__init__()
                self.factor = nn.Parameter(torch.ones(sizes.teacher))

            def forward(self, student: Tensor, teacher: Tensor, index: Tensor) -> Tensor:
                return F.l1_loss(self.factor * student, teacher)

        row = Method("ours", "", "", FeatureLevel.penultimate, 1, "Scale", {"weight": 10})
        monkeypatch.setitem(METHODS, "scale", row)
        monkeypatch.setattr(projections, "Scale", Scale, raising=False)
        objective = build_objective(MethodConfig("scale"), outputs, student, 0)
        before = objective(student, batch).loss
        train(student, objective, split, epochs=3)
        assert objective(student, batch).loss < before
        assert not torch.equal(parameters_of(objective)["loss.factor"], torch.ones(128))
