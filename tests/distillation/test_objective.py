"""What a method makes of a student: which losses it minimises, from which start, and what it refuses."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kd_cli.batches import Batch, batches
from kd_cli.cli import main
from kd_cli.data import Dataset, Normalisation, Split
from kd_cli.labels import NO_LABEL, choose_labels
from kd_cli.methods import FROM_LABELS, METHODS, Choice, MethodName, Tap, choose, require_possible
from kd_cli.networks import Network, build
from kd_cli.objectives import bind
from kd_cli.recipes import Lesson
from kd_cli.settings import DatasetName, KdError, LabelBudget, TrainingSettings, Transfer, parse_spec
from kd_cli.teaching import Teaching, average
from kd_cli.train import Silent

NORMALISE = Normalisation(0.13, 0.31)
DISTILLATIONS = [name for name in MethodName if name is not MethodName.labels]


@pytest.fixture(scope="module")
def train() -> Split:
    random = torch.Generator().manual_seed(0)
    images = torch.randint(256, (192, 28, 28), generator=random, dtype=torch.uint8)
    return Split(images, torch.arange(192) % 10)


@pytest.fixture(scope="module")
def dataset(train: Split) -> Dataset:
    return Dataset(DatasetName.digits, tuple("0123456789"), NORMALISE, train, train)


def network(spec: str, seed: int = 0) -> Network:
    torch.manual_seed(seed)
    return build(parse_spec(spec))


@pytest.fixture(scope="module")
def teaching(train: Split) -> Teaching:
    return Teaching([network("cnn-6", 1)], train, NORMALISE, augment=False)


def one_batch(train: Split) -> Batch:
    return next(batches(train, 32, NORMALISE, torch.Generator().manual_seed(0)))


def trained(choice: Choice, teaching: Teaching | None, dataset: Dataset, **settings: Any) -> dict[str, Tensor]:
    own = TrainingSettings(**{"epochs": 2, **settings})
    split = dataset.train if teaching is None else teaching.split
    training = Lesson(parse_spec("cnn-4"), choice, own, split, teaching).start(dataset)
    for _ in range(own.epochs):
        training.run_epoch(Silent())
    return training.network.state_dict()


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("name", DISTILLATIONS)
class TestEveryMethod:
    def test_same_seed_same_weights(self, name: MethodName, teaching: Teaching, dataset: Dataset) -> None:
        assert same(trained(choose(name, {}), teaching, dataset), trained(choose(name, {}), teaching, dataset))

    def test_starts_from_the_same_student_as_the_baseline(
        self, name: MethodName, teaching: Teaching, dataset: Dataset
    ) -> None:
        settings = TrainingSettings()
        taught = Lesson(parse_spec("cnn-4"), choose(name, {}), settings, dataset.train, teaching).start(dataset)
        baseline = Lesson(parse_spec("cnn-4"), FROM_LABELS, settings, dataset.train).start(dataset)
        assert same(taught.network.state_dict(), baseline.network.state_dict())

    def test_learns_something_else_than_the_baseline(
        self, name: MethodName, teaching: Teaching, dataset: Dataset
    ) -> None:
        assert not same(trained(choose(name, {}), teaching, dataset), trained(FROM_LABELS, None, dataset))

    def test_leaves_the_teacher_as_it_is(self, name: MethodName, teaching: Teaching, dataset: Dataset) -> None:
        before = {key: value.clone() for key, value in teaching.networks[0].state_dict().items()}
        trained(choose(name, {}), teaching, dataset)
        assert same(before, dict(teaching.networks[0].state_dict()))

    def test_all_layers_of_its_own_learn(self, name: MethodName, teaching: Teaching, dataset: Dataset) -> None:
        lesson = Lesson(parse_spec("cnn-4"), choose(name, {}), TrainingSettings(epochs=1), dataset.train, teaching)
        training = lesson.start(dataset)
        objective = training.objective
        own = dict(objective.named_parameters()) if isinstance(objective, nn.Module) else {}
        before = {key: value.detach().clone() for key, value in own.items()}
        training.run_epoch(Silent())
        assert [key for key, value in own.items() if torch.equal(before[key], value)] == []

    def test_a_last_batch_of_one_picture_is_no_trouble(
        self, name: MethodName, teaching: Teaching, dataset: Dataset
    ) -> None:
        weights = trained(choose(name, {}), teaching, dataset, batch_size=191, epochs=1)
        assert all(value.isfinite().all() for value in weights.values())

    def test_the_batch_order_does_not_part_pictures_and_answers(
        self, name: MethodName, train: Split, teaching: Teaching
    ) -> None:
        """A cached answer is the one that the teacher gives to the batch itself."""
        tap = METHODS[name].tap
        live = Teaching(teaching.networks, train, NORMALISE, augment=True)
        cached, asked = (each.logits(4.0) if tap is Tap.logits else each.features(tap) for each in (teaching, live))
        batch = one_batch(train)
        torch.testing.assert_close(cached(batch), asked(batch))


@pytest.mark.parametrize("name", [MethodName.fitnet, MethodName.vid, MethodName.crd])
def test_methods_with_projections_hand_them_to_the_optimiser(
    name: MethodName, teaching: Teaching, dataset: Dataset
) -> None:
    training = Lesson(parse_spec("mlp-8"), choose(name, {}), TrainingSettings(), dataset.train, teaching).start(dataset)
    assert isinstance(training.objective, nn.Module)
    optimised = {id(p) for p in training.optimiser.parameters}
    assert {id(p) for p in training.objective.parameters()} <= optimised


def test_alpha_0_is_the_baseline_to_the_bit(teaching: Teaching, dataset: Dataset) -> None:
    assert same(
        trained(choose(MethodName.kd, {"alpha": 0.0}), teaching, dataset),
        trained(FROM_LABELS, None, dataset),
    )


def test_kd_at_temperature_1_and_alpha_1_is_plain_kl_to_the_bit(teaching: Teaching, dataset: Dataset) -> None:
    assert same(
        trained(choose(MethodName.kd, {"alpha": 1.0, "temperature": 1.0}), teaching, dataset),
        trained(choose(MethodName.kl, {}), teaching, dataset),
    )


def test_kd_weighs_its_two_terms_by_alpha(teaching: Teaching, train: Split) -> None:
    student, batch = network("mlp-8"), one_batch(train)
    step = bind(choose(MethodName.kd, {"alpha": 0.25, "temperature": 3.0}), teaching, student, 0)(student, batch)
    logits, targets = student(batch.images), teaching.networks[0](batch.images)
    kl = torch.distributions.kl_divergence(
        *(torch.distributions.Categorical(logits=each / 3) for each in (targets, logits))
    ).mean()
    expected = 0.25 * 9 * kl + 0.75 * nn.CrossEntropyLoss()(logits, batch.labels)
    torch.testing.assert_close(step.loss, expected, rtol=1e-4, atol=1e-6)
    gradients = torch.autograd.grad(expected, list(student.parameters()))
    step.backward()
    torch.testing.assert_close([p.grad for p in student.parameters()], list(gradients), rtol=1e-4, atol=1e-6)


class TestSeveralTeachers:
    @pytest.fixture
    def three(self) -> list[Network]:
        return [network(spec, seed) for spec, seed in (("cnn-6", 1), ("cnn-6", 2), ("mlp-12", 3))]

    @pytest.mark.parametrize("temperature", [1.0, 4.0])
    def test_their_softened_probabilities_are_averaged(
        self, three: list[Network], train: Split, temperature: float
    ) -> None:
        images = one_batch(train).images
        averaged = (average(three, images, temperature) / temperature).softmax(dim=1)
        expected = torch.stack([(each(images) / temperature).softmax(dim=1) for each in three]).mean(dim=0)
        torch.testing.assert_close(averaged, expected)

    def test_logit_matching_takes_their_mean_logits(self, three: list[Network], train: Split) -> None:
        batch = one_batch(train)
        answers = Teaching(three, train, NORMALISE, augment=False).logits(None)(batch)
        torch.testing.assert_close(answers, torch.stack([each(batch.images) for each in three]).mean(dim=0))

    def test_feature_methods_refuse_them(self) -> None:
        with pytest.raises(KdError, match="one teacher"):
            require_possible(choose(MethodName.rkd, {}), parse_spec("mlp-8"), ["cnn-6", "cnn-6"])


class TestMethodsWithoutSpatialMaps:
    def test_attention_names_a_student_that_works(self) -> None:
        with pytest.raises(KdError, match="cnn-8"):
            require_possible(choose(MethodName.at, {}), parse_spec("mlp-128"))

    def test_attention_names_a_teacher_that_works(self) -> None:
        with pytest.raises(KdError, match="cnn-32"):
            require_possible(choose(MethodName.at, {}), parse_spec("cnn-8"), ["mlp-128"])

    @pytest.mark.parametrize("name", [name for name in MethodName if name is not MethodName.at])
    def test_all_others_take_any_student(self, name: MethodName) -> None:
        require_possible(choose(name, {}), parse_spec("mlp-128"), ["mlp-800-800"])


class TestFewerLabels:
    @pytest.mark.parametrize("fraction", [0.1, 0.5])
    def test_each_class_keeps_its_share(self, train: Split, fraction: float) -> None:
        chosen = choose_labels(train, LabelBudget(fraction), seed=0, teacher=True)
        counts = torch.bincount(chosen.labels, minlength=10)
        assert len(chosen) == int(fraction * len(train))
        assert counts.max() - counts.min() <= 1

    def test_the_seed_decides_which(self, train: Split) -> None:
        a, b, c = (choose_labels(train, LabelBudget(0.1), seed=seed, teacher=True).images for seed in (0, 0, 1))
        assert torch.equal(a, b)
        assert not torch.equal(a, c)

    def test_transfer_shows_all_pictures_with_the_others_unlabelled(self, train: Split) -> None:
        chosen = choose_labels(train, LabelBudget(0.1, Transfer.all), seed=0, teacher=True)
        known = chosen.labels != NO_LABEL
        assert torch.equal(chosen.images, train.images)
        assert known.sum() == 19
        assert torch.equal(chosen.labels[known], train.labels[known])

    def test_the_baseline_of_a_transfer_takes_as_many_steps_on_the_same_labelled_pictures(self, train: Split) -> None:
        with_teacher = choose_labels(train, LabelBudget(0.1, Transfer.all), seed=0, teacher=True)
        without = choose_labels(train, LabelBudget(0.1, Transfer.all), seed=0, teacher=False)
        labelled = with_teacher.images[with_teacher.labels != NO_LABEL]
        assert len(without) == len(with_teacher)
        assert torch.equal(without.images.unique(dim=0), labelled.unique(dim=0))

    def test_unlabelled_pictures_add_nothing_to_the_label_loss(self, train: Split, teaching: Teaching) -> None:
        labels = train.labels.clone()
        labels[1:] = NO_LABEL
        student = network("mlp-8")
        batch = Batch(NORMALISE(train.images[:8]), labels[:8], torch.arange(8))
        own = Teaching(teaching.networks, Split(train.images, labels), NORMALISE, augment=False)
        term = bind(choose(MethodName.kd, {"alpha": 0.5}), own, student, 0)(student, batch).terms["labels"]
        expected = 0.5 * nn.CrossEntropyLoss()(student(batch.images[:1]), labels[:1])
        torch.testing.assert_close(term, expected)

    def test_a_batch_without_labels_leaves_the_teacher_alone_to_teach(self, train: Split, teaching: Teaching) -> None:
        labels = torch.full_like(train.labels, NO_LABEL)
        student = network("mlp-8")
        batch = Batch(NORMALISE(train.images[:8]), labels[:8], torch.arange(8))
        own = Teaching(teaching.networks, Split(train.images, labels), NORMALISE, augment=False)
        step = bind(choose(MethodName.kd, {}), own, student, 0)(student, batch)
        assert step.terms["labels"] == 0
        assert step.loss.isfinite()

    def test_fewer_labels_than_classes_are_refused(self, train: Split) -> None:
        with pytest.raises(KdError, match="for 10 classes: use "):
            choose_labels(train, LabelBudget(0.01), seed=0, teacher=True)


@pytest.fixture
def complain(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    def run(*arguments: str) -> tuple[int, str]:
        code = main(list(arguments))
        return code, capsys.readouterr().err

    return run


Complain = Callable[..., tuple[int, str]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--method", "nonsense"], "nonsense"),
        (["--method", "kl", "--temperature", "3"], "kl has no --temperature"),
        (["--method", "at", "--alpha", "0.5"], "at has no --alpha"),
        (["--method", "kd", "--beta", "2"], "kd has no --beta"),
        (["--temperature", "0"], "not a positive number"),
        (["--temperature", "nan"], "not a positive number"),
        (["--alpha", "1.5"], "alpha"),
        (["--train-fraction", "0"], "not a fraction"),
        (["--ensemble", "2", "--teacher", "x.safetensors"], "not both"),
    ],
)
def test_wrong_options_are_one_line_and_exit_code_2(arguments: list[str], message: str, complain: Complain) -> None:
    code, error = complain("distill", *arguments)
    assert code == 2
    assert message in error
    assert error.count("\n") == 1


def test_an_impossible_pair_is_one_line_and_exit_code_1(complain: Complain) -> None:
    code, error = complain("distill", "--method", "at", "--student", "mlp-128")
    assert code == 1
    assert error.count("\n") == 1
    assert "cnn-8" in error


@pytest.fixture(scope="module")
def ensemble(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two small teachers of the bundled digits, and the folder that all of it is in."""
    folder = tmp_path_factory.mktemp("kd")
    arguments = ["train-teacher", "--arch", "mlp-16", "--ensemble", "2", "--epochs", "2"]
    assert main([*arguments, *places(folder)]) == 0
    return folder


def places(folder: Path) -> list[str]:
    return ["--dataset", "digits", "--data-dir", str(folder / "data"), "--models-dir", str(folder / "models")]


class TestEnsembles:
    def test_every_member_is_saved_with_a_seed_of_its_own(self, ensemble: Path) -> None:
        saved = sorted(path.name for path in (ensemble / "models" / "digits").glob("teacher*"))
        assert saved == ["teacher-2.safetensors", "teacher.safetensors"]

    def test_a_student_can_learn_from_all_of_them(self, ensemble: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert (
            main(["distill", "--ensemble", "2", "--student", "mlp-8", "--epochs", "1", "--json", *places(ensemble)])
            == 0
        )
        teachers = json.loads(capsys.readouterr().out)["teachers"]
        assert [Path(path).name for path in teachers] == ["teacher.safetensors", "teacher-2.safetensors"]

    def test_a_missing_member_says_how_to_train_it(self, ensemble: Path, complain: Complain) -> None:
        code, error = complain("distill", "--ensemble", "3", *places(ensemble))
        assert code == 1
        assert "kd train-teacher --ensemble 3" in error

    def test_a_diverging_run_says_what_to_do(self, ensemble: Path, complain: Complain) -> None:
        code, error = complain("distill", "--method", "mse", "--lr", "1e18", "--epochs", "2", *places(ensemble))
        assert code == 1
        assert "--lr" in error
