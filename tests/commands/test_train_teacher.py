"""Training a teacher, or several: what is saved, what is reported, and what is left behind where it does not end."""

import itertools
import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from torch import nn

from kd_cli.commands import job, training_run
from kd_cli.commands.results import EnsembleResult, TrainingResult
from kd_cli.commands.train_teacher import train_teacher
from kd_cli.config import (
    DataConfig,
    KdError,
    OutputConfig,
    Role,
    RunConfig,
    RunStoppedError,
    TrainingConfig,
)
from kd_cli.data import prepared
from kd_cli.data.batches import Batch
from kd_cli.distillation.objective import build_objective
from kd_cli.evaluation.quality import measure_accuracy
from kd_cli.networks.checkpoint import find_checkpoint, load_checkpoint, shipped_models_dir
from kd_cli.networks.classifier import compute_logits, count_parameters
from kd_cli.networks.spec import parse_spec
from kd_cli.training.objective import Objective, Step

CPU = torch.device("cpu")
MLP = parse_spec("mlp-8")
TWO_EPOCHS = TrainingConfig(epochs=2)

Train = Callable[..., TrainingResult]
TrainEnsemble = Callable[..., EnsembleResult]


@pytest.fixture
def train(data: DataConfig, run: RunConfig) -> Train:
    def one(training: TrainingConfig = TWO_EPOCHS, output: OutputConfig = OutputConfig()) -> TrainingResult:
        result = train_teacher(MLP, data, training, run, output)
        assert isinstance(result, TrainingResult)
        return result

    return one


@pytest.fixture
def train_ensemble(data: DataConfig, run: RunConfig) -> TrainEnsemble:
    def three(training: TrainingConfig = TWO_EPOCHS, output: OutputConfig = OutputConfig()) -> EnsembleResult:
        result = train_teacher(MLP, data, training, run, output, ensemble=3)
        assert isinstance(result, EnsembleResult)
        return result

    return three


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class TestOne:
    def test_what_is_reported_is_what_the_saved_network_does(self, train: Train, data: DataConfig) -> None:
        result = train()
        checkpoint = load_checkpoint(Path(result.checkpoint), CPU)
        test = prepared.load(data).test
        accuracy, errors = measure_accuracy(compute_logits(checkpoint.classifier, test.images), test.labels)
        assert (result.accuracy, result.error_count, result.test_images) == (accuracy, errors, 500)
        assert result.parameters == count_parameters(checkpoint.classifier)
        assert checkpoint.metadata.accuracy == accuracy

    def test_the_history_has_every_epoch_and_the_seconds_add_up(self, train: Train) -> None:
        result = train(TrainingConfig(epochs=3))
        assert [epoch.epoch for epoch in result.history] == [1, 2, 3]
        assert (result.history[-1].accuracy, result.history[-1].error_count) == (result.accuracy, result.error_count)
        assert result.history[-1].loss < result.history[0].loss
        assert result.train_seconds == math.fsum(epoch.seconds for epoch in result.history) > 0

    def test_the_checkpoint_says_how_it_came_about(self, train: Train) -> None:
        result = train(TrainingConfig(epochs=1, seed=5, lr=0.002))
        metadata = load_checkpoint(Path(result.checkpoint), CPU).metadata
        assert (metadata.architecture, metadata.method, metadata.seed, metadata.ensemble) == (
            "mlp-8",
            "labels",
            5,
            None,
        )
        assert metadata.options == json.loads(json.dumps(result.options))
        assert (metadata.options["epochs"], metadata.options["lr"]) == (1, 0.002)

    def test_it_lies_in_the_models_folder_and_is_found_there_before_the_one_that_ships(
        self, train: Train, run: RunConfig
    ) -> None:
        result = train()
        assert Path(result.checkpoint) == run.models_dir / "digits" / "teacher.safetensors"
        assert files_in(run.models_dir / "digits") == ["teacher.safetensors"]
        assert find_checkpoint(run.models_dir, "digits", Role.teacher) == Path(result.checkpoint)

    def test_the_same_seed_writes_the_same_file(self, train: Train, tmp_path: Path) -> None:
        paths = [tmp_path / name for name in ("first", "second", "other")]
        for path, seed in zip(paths, (0, 0, 1), strict=True):
            train(TrainingConfig(epochs=1, seed=seed), OutputConfig(path))
        first, second, other = (path.read_bytes() for path in paths)
        assert first == second != other

    @pytest.mark.parametrize("name", ["x.pth", "x.safetensors", "x", "x.PNG"])
    def test_a_checkpoint_of_any_name_can_be_read(self, train: Train, tmp_path: Path, name: str) -> None:
        result = train(output=OutputConfig(tmp_path / name))
        assert load_checkpoint(tmp_path / name, CPU).metadata.accuracy == result.accuracy

    def test_the_default_folder_is_not_the_one_with_the_weights_that_ship(self) -> None:
        default = RunConfig().models_dir
        assert default == Path("runs/models")
        assert not (shipped_models_dir().parent / default).is_relative_to(shipped_models_dir())


class TestAnEnsemble:
    def test_is_described_as_a_whole(self, train_ensemble: TrainEnsemble, data: DataConfig) -> None:
        result = train_ensemble()
        members = [load_checkpoint(Path(member.checkpoint), CPU).classifier for member in result.members]
        test = prepared.load(data).test
        mean = sum(compute_logits(member, test.images).softmax(dim=1) for member in members) / 3
        accuracy, errors = measure_accuracy(torch.as_tensor(mean), test.labels)
        assert (result.accuracy, result.error_count) == (accuracy, errors)
        assert result.parameters == sum(count_parameters(member) for member in members)
        assert (result.ensemble, result.seed, [member.seed for member in result.members]) == (3, 0, [0, 1, 2])
        assert result.train_seconds == pytest.approx(sum(member.train_seconds for member in result.members))

    def test_has_the_mean_of_its_members_histories(self, train_ensemble: TrainEnsemble) -> None:
        result = train_ensemble()
        assert [epoch.epoch for epoch in result.history] == [1, 2]
        for number, epoch in enumerate(result.history):
            own = [member.history[number] for member in result.members]
            assert epoch.loss == pytest.approx(sum(each.loss for each in own) / 3)
            assert epoch.accuracy == pytest.approx(sum(each.accuracy for each in own) / 3)
            assert epoch.seconds == pytest.approx(sum(each.seconds for each in own))

    def test_has_members_that_know_their_places(self, train_ensemble: TrainEnsemble) -> None:
        memberships = [
            load_checkpoint(Path(member.checkpoint), CPU).metadata.ensemble for member in train_ensemble().members
        ]
        assert len({each.identifier for each in memberships if each}) == 1
        assert [(each.number, each.size) for each in memberships if each] == [(1, 3), (2, 3), (3, 3)]

    def test_is_saved_beside_the_given_name(self, train_ensemble: TrainEnsemble, tmp_path: Path) -> None:
        folder = tmp_path / "mine"
        result = train_ensemble(output=OutputConfig(folder / "teacher.pth"))
        assert files_in(folder) == ["teacher-2.pth", "teacher-3.pth", "teacher.pth"]
        assert Path(result.checkpoint) == folder / "teacher.pth"

    def test_of_the_same_seed_writes_the_same_files(self, train_ensemble: TrainEnsemble, tmp_path: Path) -> None:
        contents = []
        for name in ("first", "second"):
            train_ensemble(output=OutputConfig(tmp_path / name / "t"))
            contents.append([path.read_bytes() for path in sorted((tmp_path / name).iterdir())])
        assert contents[0] == contents[1]

    def test_has_members_that_are_teachers_of_their_seeds(
        self, train: Train, train_ensemble: TrainEnsemble, tmp_path: Path
    ) -> None:
        second = train_ensemble().members[1]
        alone = train(TrainingConfig(epochs=2, seed=1), OutputConfig(tmp_path / "alone"))
        weights = [load_checkpoint(Path(each.checkpoint), CPU).classifier.state_dict() for each in (second, alone)]
        assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.mark.parametrize("path", ["", ".", "/"])
class TestAnOutputThatNamesNoFile:
    def test_is_refused_in_one_line(self, train: Train, path: str) -> None:
        with pytest.raises(KdError, match="add a file name") as refused:
            train(output=OutputConfig(Path(path)))
        assert "\n" not in str(refused.value)

    def test_is_refused_for_an_ensemble_too(self, train_ensemble: TrainEnsemble, path: str) -> None:
        with pytest.raises(KdError, match="add a file name"):
            train_ensemble(output=OutputConfig(Path(path)))


def interrupt_after(epochs: int) -> Mock:
    """In the place of the test after each epoch: Ctrl-C while another one than these is tested."""

    def effects() -> Iterator[object]:
        yield from [(0.5, 250)] * epochs
        raise KeyboardInterrupt

    return Mock(side_effect=effects())


class TestAnInterruptedRun:
    def test_says_what_is_kept_and_goes_on_from_there(
        self, train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        three = TrainingConfig(epochs=3)
        whole = train(three, OutputConfig(tmp_path / "whole"))
        with monkeypatch.context() as patch:
            patch.setattr(training_run, "measure_accuracy", interrupt_after(epochs=1))
            with pytest.raises(RunStoppedError, match=r"part\.resume keeps 1 of 3 epochs: repeat .* --resume"):
                train(three, OutputConfig(tmp_path / "part"))
        resumed = train(three, OutputConfig(tmp_path / "part", resume=True))
        assert [epoch.epoch for epoch in resumed.history] == [1, 2, 3]
        assert (tmp_path / "part").read_bytes() == (tmp_path / "whole").read_bytes()
        assert files_in(tmp_path) == ["part", "whole"]
        assert whole.accuracy == resumed.accuracy

    def test_before_its_first_epoch_leaves_nothing_and_touches_nothing(
        self, train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "teacher"
        train(output=OutputConfig(path))
        before = path.read_bytes()
        monkeypatch.setattr(training_run, "measure_accuracy", interrupt_after(epochs=0))
        with pytest.raises(RunStoppedError, match="no epoch was kept"):
            train(TrainingConfig(epochs=2, seed=9), OutputConfig(path))
        assert path.read_bytes() == before
        assert files_in(tmp_path) == ["teacher"]

    def test_of_an_ensemble_goes_on_with_the_member_that_was_stopped(
        self, train_ensemble: TrainEnsemble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        whole, part = tmp_path / "whole" / "t", tmp_path / "part" / "t"
        train_ensemble(output=OutputConfig(whole))
        tests = Mock(wraps=measure_accuracy)
        with monkeypatch.context() as patch:
            patch.setattr(training_run, "measure_accuracy", interrupt_after(epochs=3))
            with pytest.raises(RunStoppedError, match=r"t-2\.resume keeps 1 of 2 epochs"):
                train_ensemble(output=OutputConfig(part))
        monkeypatch.setattr(training_run, "measure_accuracy", tests)
        train_ensemble(output=OutputConfig(part, resume=True))
        assert tests.call_count == 3  # one epoch of the second member, two of the third
        assert files_in(part.parent) == files_in(whole.parent) == ["t", "t-2", "t-3"]
        for name in ("t-2", "t-3"):
            weights = [load_checkpoint(folder.parent / name, CPU).classifier.state_dict() for folder in (whole, part)]
            assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])

    def test_of_an_ensemble_counts_the_members_that_are_saved(
        self, train_ensemble: TrainEnsemble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tests = Mock(wraps=measure_accuracy)
        with monkeypatch.context() as patch:
            patch.setattr(training_run, "measure_accuracy", interrupt_after(epochs=2))
            with pytest.raises(RunStoppedError, match=r"1 of 3 members are saved: repeat the command with --resume"):
                train_ensemble(output=OutputConfig(tmp_path / "t"))
        monkeypatch.setattr(training_run, "measure_accuracy", tests)
        train_ensemble(output=OutputConfig(tmp_path / "t", resume=True))
        assert tests.call_count == 4  # two epochs of the second member, two of the third


STEPS = 21
"""Steps in an epoch of the bundled digits."""


def diverge(patch: pytest.MonkeyPatch, after: int) -> None:
    """Let the loss become infinite after so many steps, of all networks together."""
    steps = itertools.count()

    def build_diverging(*arguments: Any) -> Objective:
        objective = build_objective(*arguments)

        def diverging(network: nn.Module, batch: Batch) -> Step:
            step = objective(network, batch)
            return step if next(steps) < after else Step(step.logits, step.loss * math.inf, step.terms)

        return diverging

    patch.setattr(job, "build_objective", build_diverging)


def advised_lr(error: KdError) -> float:
    found = re.search(r"--lr (\S+)$", str(error))
    assert found, error
    return float(found[1])


class TestADivergedRun:
    @pytest.mark.parametrize(("after", "kept"), [(STEPS + 1, 1), (2 * STEPS + 5, 2)])
    def test_goes_on_from_its_last_good_epoch_with_the_learning_rate_that_it_advises(
        self, train: Train, tmp_path: Path, after: int, kept: int
    ) -> None:
        path, four = tmp_path / "teacher", TrainingConfig(epochs=4, lr=0.01)
        with pytest.MonkeyPatch.context() as patch:
            diverge(patch, after)
            with pytest.raises(KdError, match=f"epoch {kept + 1}, .*keeps {kept} of 4 epochs.*--resume") as refused:
                train(four, OutputConfig(path))
        smaller = replace(four, lr=advised_lr(refused.value))
        assert smaller.lr < four.lr
        result = train(smaller, OutputConfig(path, resume=True))
        assert [epoch.epoch for epoch in result.history] == [1, 2, 3, 4]
        assert load_checkpoint(path, CPU).metadata.options["lr"] == smaller.lr
        assert files_in(tmp_path) == ["teacher"]

    def test_may_diverge_again(self, train: Train, tmp_path: Path) -> None:
        path, training, resume = tmp_path / "teacher", TrainingConfig(epochs=2, lr=0.01), False
        for _ in range(2):
            with pytest.MonkeyPatch.context() as patch:
                diverge(patch, after=1 if resume else STEPS + 1)
                with pytest.raises(KdError, match="keeps 1 of 2 epochs") as refused:
                    train(training, OutputConfig(path, resume=resume))
            training, resume = replace(training, lr=advised_lr(refused.value)), True
        assert training.lr == pytest.approx(0.0001)
        assert len(train(training, OutputConfig(path, resume=True)).history) == 2

    def test_may_go_on_with_another_learning_rate_and_nothing_else(self, train: Train, tmp_path: Path) -> None:
        path, training = tmp_path / "teacher", TrainingConfig(epochs=2, lr=0.01)
        with pytest.MonkeyPatch.context() as patch:
            diverge(patch, after=STEPS + 1)
            with pytest.raises(KdError, match="keeps 1"):
                train(training, OutputConfig(path))
        with pytest.raises(KdError, match=r"batch_size 64, now 32"):
            train(replace(training, lr=0.001, batch_size=32), OutputConfig(path, resume=True))

    def test_that_was_only_interrupted_keeps_its_learning_rate(
        self, train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "teacher"
        monkeypatch.setattr(training_run, "measure_accuracy", interrupt_after(epochs=1))
        with pytest.raises(RunStoppedError):
            train(TrainingConfig(epochs=2, lr=0.01), OutputConfig(path))
        with pytest.raises(KdError, match=r"lr 0\.01, now 0\.001"):
            train(TrainingConfig(epochs=2, lr=0.001), OutputConfig(path, resume=True))

    @pytest.mark.parametrize("after", [3, STEPS], ids=["in its first epoch", "at the first step after an epoch"])
    def test_starts_again_where_nothing_good_was_kept(self, train: Train, tmp_path: Path, after: int) -> None:
        # A loss that is no number at once says that the weights are no good, whatever the learning rate will be.
        with pytest.MonkeyPatch.context() as patch:
            diverge(patch, after)
            with pytest.raises(KdError, match="start again with a smaller --lr") as refused:
                train(TrainingConfig(epochs=2, lr=0.01), OutputConfig(tmp_path / "teacher"))
        assert files_in(tmp_path) == []
        assert train(TrainingConfig(epochs=2, lr=advised_lr(refused.value))).accuracy > 0.2

    @pytest.mark.parametrize("after", [STEPS + 1, 2 * STEPS, 3 * STEPS + 1], ids=["first", "second", "second, later"])
    def test_of_an_ensemble_starts_again_with_the_learning_rate_that_it_advises(
        self, train_ensemble: TrainEnsemble, tmp_path: Path, after: int
    ) -> None:
        # Members that are done have learnt with the larger rate, so `--resume` would mix two.
        path = tmp_path / "teacher"
        with pytest.MonkeyPatch.context() as patch:
            diverge(patch, after)
            with pytest.raises(KdError, match="start again with a smaller --lr") as refused:
                train_ensemble(TrainingConfig(epochs=2, lr=0.01), OutputConfig(path))
        smaller = TrainingConfig(epochs=2, lr=advised_lr(refused.value))
        result = train_ensemble(smaller, OutputConfig(path))
        assert [member.options["lr"] for member in result.members] == [smaller.lr] * 3
        assert files_in(tmp_path) == ["teacher", "teacher-2", "teacher-3"]


class TestARunThatLearnsNothing:
    @pytest.mark.parametrize(
        ("training", "advice"),
        [
            (TrainingConfig(epochs=2, lr=1e6), r"use a smaller --lr, e\.g\. --lr 0\.001, or --force"),
            (TrainingConfig(epochs=1, lr=1e-9, seed=3), "use a larger --lr or more --epochs, or --force"),
        ],
        ids=["too fast", "too slow"],
    )
    def test_says_what_would_learn_more(self, train: Train, training: TrainingConfig, advice: str) -> None:
        with pytest.raises(KdError, match=advice):
            train(training)

    def test_is_told_from_one_that_learns_little(self, train: Train) -> None:
        assert train(TrainingConfig(epochs=1, lr=2e-4)).accuracy < 0.5


def test_a_file_of_somebody_elses_in_a_members_place_is_found_before_any_training(
    train_ensemble: TrainEnsemble, tmp_path: Path
) -> None:
    (tmp_path / "teacher-3.txt").write_text("years of work")
    with pytest.raises(KdError, match=r"teacher-3\.txt: it is a file that kd did not write"):
        train_ensemble(output=OutputConfig(tmp_path / "teacher.txt"))
    assert files_in(tmp_path) == ["teacher-3.txt"]


@pytest.mark.parametrize(
    ("training", "validated", "fitted"),
    [
        (TWO_EPOCHS, 0, False),
        (replace(TWO_EPOCHS, augment=("shift",)), 0, True),
        (TWO_EPOCHS, 0.2, True),
    ],
    ids=["images as they were learnt", "augmented images", "validation images"],
)
def test_confidences_are_fitted_to_images_that_the_network_did_not_learn_as_they_are(
    data: DataConfig, run: RunConfig, training: TrainingConfig, validated: float, fitted: bool
) -> None:
    result = train_teacher(MLP, replace(data, validation_fraction=validated), training, run)
    confidence = load_checkpoint(Path(result.checkpoint), CPU).metadata.confidence
    assert confidence is not None
    assert (confidence.temperature != 1) == fitted
    assert confidence.typical is not None
    assert 0.1 < confidence.typical.least < 1
