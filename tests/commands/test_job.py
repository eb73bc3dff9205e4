"""Jobs: options become data, networks, method and device that fit together, or one line that says why they do not."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from kd_cli.commands.checkpoints import (
    find_teachers,
    member_path,
    open_for_testing,
)
from kd_cli.commands.distill import distill
from kd_cli.commands.job import Job, StudentConfig
from kd_cli.commands.network_files import describe_model, require_fit
from kd_cli.commands.resolve import resolve_student, resolve_teacher, with_student
from kd_cli.commands.results import TrainingResult
from kd_cli.commands.train_teacher import train_teacher
from kd_cli.config import (
    AUGMENTATIONS,
    MAX_SEED,
    ConfigError,
    DataConfig,
    DeviceName,
    KdError,
    LabelConfig,
    OutputConfig,
    RunConfig,
    TeacherConfig,
    TrainingConfig,
    Transfer,
)
from kd_cli.data.dataset import DataInfo
from kd_cli.distillation.methods import FROM_LABELS, METHODS, MethodConfig
from kd_cli.distillation.objective import Distillation
from kd_cli.networks.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from kd_cli.networks.spec import parse_spec
from tests.conftest import make_dataset
from tests.sources import register

CPU = torch.device("cpu")
MLP, CNN = parse_spec("mlp-8"), parse_spec("cnn-4")
HUGE = parse_spec("mlp" + 16 * "-65536")


@pytest.fixture
def checkpoint(trained_teacher: TrainingResult) -> Checkpoint:
    return load_checkpoint(Path(trained_teacher.checkpoint), CPU)


def train_ensemble(data: DataConfig, run: RunConfig, members: int) -> None:
    train_teacher(parse_spec("mlp-4"), data, TrainingConfig(epochs=1), run, ensemble=members)


class TestTeachers:
    def test_the_data_sets_own_is_found(self, student: StudentConfig, checkpoint: Checkpoint) -> None:
        (found,) = resolve_student(student).teachers
        assert (found.path, found.digest) == (checkpoint.path, checkpoint.digest)

    def test_those_given_take_its_place_in_their_order(
        self, student: StudentConfig, data: DataConfig, run: RunConfig, tmp_path: Path
    ) -> None:
        paths = (tmp_path / "first.safetensors", tmp_path / "second.safetensors")
        for path in paths:
            train_teacher(parse_spec("mlp-4"), data, TrainingConfig(epochs=1), run, OutputConfig(path))
        job = resolve_student(replace(student, teachers=TeacherConfig(paths)))
        assert tuple(teacher.path for teacher in job.teachers) == paths

    def test_what_they_were_trained_on_is_the_data_set_unless_another_is_asked_for(
        self, student: StudentConfig, checkpoint: Checkpoint
    ) -> None:
        given = TeacherConfig((checkpoint.path,))
        config = replace(student, teachers=given, data=replace(student.data, dataset="auto"))
        assert resolve_student(config).dataset.info.name == "digits"

    def test_a_baseline_needs_none(self, student: StudentConfig, run: RunConfig) -> None:
        config = replace(student, method=FROM_LABELS, run=replace(run, models_dir=Path("nothing here")))
        assert resolve_student(config, needs_teacher=False).teachers == ()

    def test_a_missing_one_is_named_with_the_command_that_trains_it(
        self, monkeypatch: pytest.MonkeyPatch, data: DataConfig, tmp_path: Path
    ) -> None:
        register(monkeypatch, "three", make_dataset(classes=3))
        config = StudentConfig(MLP, data=replace(data, dataset="three"), run=RunConfig(tmp_path))
        with pytest.raises(KdError, match="run kd train-teacher --dataset three"):
            resolve_student(config)


class TestEnsembles:
    def test_the_first_members_of_a_larger_ensemble_are_one_too(self, data: DataConfig, run: RunConfig) -> None:
        train_ensemble(data, run, members=3)
        found = find_teachers(run, "digits", CPU, ensemble=2)
        assert [teacher.path.name for teacher in found] == ["teacher.safetensors", "teacher-2.safetensors"]
        assert len({teacher.digest for teacher in found}) == 2

    def test_a_missing_member_is_named(self, data: DataConfig, run: RunConfig) -> None:
        train_ensemble(data, run, members=2)
        with pytest.raises(KdError, match=r"teacher-3\.safetensors: run kd train-teacher --ensemble 3 first"):
            find_teachers(run, "digits", CPU, ensemble=3)

    @pytest.mark.parametrize("architecture", ["mlp-16", "mlp-4"])
    def test_a_foreign_network_in_a_members_place_is_refused(
        self, data: DataConfig, run: RunConfig, architecture: str
    ) -> None:
        train_ensemble(data, run, members=3)
        train_teacher(parse_spec(architecture), data, TrainingConfig(epochs=1), run)
        with pytest.raises(KdError, match=r"of one ensemble.*run kd train-teacher --ensemble 3 first"):
            find_teachers(run, "digits", CPU, ensemble=3)

    def test_members_of_two_ensembles_are_refused(self, data: DataConfig, run: RunConfig) -> None:
        train_ensemble(data, run, members=3)
        train_teacher(parse_spec("mlp-4"), data, TrainingConfig(epochs=1, seed=7), run, ensemble=2)
        with pytest.raises(KdError, match=r"teacher-3\.safetensors is not member 3 of one ensemble"):
            find_teachers(run, "digits", CPU, ensemble=3)

    def test_a_copy_of_one_member_in_the_place_of_another_is_refused(self, data: DataConfig, run: RunConfig) -> None:
        train_ensemble(data, run, members=2)
        folder = run.models_dir / "digits"
        (folder / "teacher-2.safetensors").write_bytes((folder / "teacher.safetensors").read_bytes())
        with pytest.raises(KdError, match="is not member 2 of one ensemble"):
            find_teachers(run, "digits", CPU, ensemble=2)

    def test_a_seed_that_the_last_member_cannot_have_is_refused(self, data: DataConfig, run: RunConfig) -> None:
        with pytest.raises(ConfigError, match=f"--seed {MAX_SEED} --ensemble 2"):
            resolve_teacher(MLP, data, TrainingConfig(seed=MAX_SEED), run, ensemble=2)
        resolve_teacher(MLP, data, TrainingConfig(seed=MAX_SEED - 1), run, ensemble=2)

    def test_members_files_are_numbered_from_the_second(self) -> None:
        names = [member_path(Path("a/teacher.safetensors"), number).name for number in (1, 2, 10)]
        assert names == ["teacher.safetensors", "teacher-2.safetensors", "teacher-10.safetensors"]


class TestWhatDoesNotFit:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"name": "mnist"}, "was trained on mnist, not on digits: use --dataset mnist"),
            ({"classes": ("yes", "no")}, "tells 2 classes apart, but digits has 10"),
            ({"shape": (3, 28, 28)}, r"takes images of shape \(3, 28, 28\), not \(1, 28, 28\)"),
        ],
    )
    def test_a_checkpoint_for_other_images_is_refused(
        self, checkpoint: Checkpoint, change: dict[str, object], message: str
    ) -> None:
        expected = checkpoint.metadata.data
        other = DataInfo(**{**vars(expected), **change})
        with pytest.raises(KdError, match=message):
            require_fit(replace(checkpoint, metadata=replace(checkpoint.metadata, data=other)), expected)
        require_fit(checkpoint, expected)

    def test_a_teacher_of_other_images_is_refused(
        self, student: StudentConfig, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        register(monkeypatch, "three", make_dataset(classes=3))
        given = TeacherConfig((checkpoint.path,))
        with pytest.raises(KdError, match="tells 10 classes apart, but three has 3"):
            resolve_student(replace(student, teachers=given, data=replace(student.data, dataset="three")))

    def test_labels_that_a_method_needs_cannot_be_left_out(self, student: StudentConfig) -> None:
        config = replace(student, method=MethodConfig("dkd"), labels=LabelConfig(0.5, Transfer.all))
        with pytest.raises(ConfigError, match="dkd needs the label of every image"):
            resolve_student(config)
        resolve_student(replace(config, labels=LabelConfig(0.5)))

    def test_a_student_without_what_the_method_reads_is_refused_before_any_data_is_loaded(self, tmp_path: Path) -> None:
        config = StudentConfig(MLP, MethodConfig("at"), data=DataConfig("digits", tmp_path / "data"))
        with pytest.raises(KdError, match="cnn-8"):
            resolve_student(config)
        assert not (tmp_path / "data").exists()

    def test_a_teacher_without_what_the_method_reads_is_refused(self, student: StudentConfig) -> None:
        with pytest.raises(KdError, match=r"the teacher, mlp-16, has none"):
            resolve_student(replace(student, architecture=CNN, method=MethodConfig("at")))

    @pytest.mark.parametrize(
        "resolve",
        [
            lambda student: resolve_teacher(HUGE, student.data, student.training, student.run),
            lambda student: resolve_student(replace(student, architecture=HUGE)),
            lambda student: with_student(resolve_student(student), HUGE, FROM_LABELS, seed=0),
        ],
        ids=["teacher", "student", "student of a comparison"],
    )
    def test_a_network_that_no_memory_holds_is_refused_with_what_it_needs(
        self, student: StudentConfig, resolve: Callable[[StudentConfig], Job]
    ) -> None:
        with pytest.raises(KdError, match=r"needs at least 1,\d\d\d GB of memory.*smaller architecture"):
            resolve(student)

    def test_a_device_that_is_not_there_is_refused(
        self, student: StudentConfig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("torch.cuda.is_available", lambda: False)
        with pytest.raises(KdError, match="no cuda device"):
            resolve_student(replace(student, run=replace(student.run, device=DeviceName.cuda)))


def initial_weights(job: Job) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in job.start().network.parameters()])


class TestStarting:
    @pytest.mark.parametrize("method", [name for name in METHODS if name not in ("labels", "at")])
    def test_the_same_seed_gives_every_method_the_same_student(self, student: StudentConfig, method: str) -> None:
        job = resolve_student(student)
        baseline = with_student(job, MLP, FROM_LABELS, seed=3)
        assert torch.equal(
            initial_weights(with_student(job, MLP, MethodConfig(method), seed=3)), initial_weights(baseline)
        )

    def test_another_seed_gives_another_student(self, student: StudentConfig) -> None:
        job = resolve_student(student)
        first, second = (with_student(job, MLP, FROM_LABELS, seed) for seed in (0, 1))
        assert not torch.equal(initial_weights(first), initial_weights(second))

    def test_torchs_own_random_stream_is_neither_used_nor_moved(self, student: StudentConfig) -> None:
        job = resolve_student(replace(student, method=MethodConfig("vid")))
        torch.manual_seed(1)
        first = initial_weights(job)
        drawn = torch.rand(3)
        torch.manual_seed(1)
        assert torch.equal(torch.rand(3), drawn)
        assert torch.equal(initial_weights(job), first)

    def test_outputs_of_another_run_may_be_used_again(self, student: StudentConfig) -> None:
        job = resolve_student(student)
        outputs = job.compute_outputs()
        other = with_student(job, MLP, student.method, seed=1)
        losses = [training.run_epoch().loss for training in (other.start(outputs), other.start())]
        assert losses[0] == losses[1]


class TestTeacherViews:
    AUGMENTED = TrainingConfig(epochs=3, augment=("warp",))

    @pytest.mark.parametrize("views", [None, 0, 2])
    @pytest.mark.parametrize("augment", [(), *((name,) for name in AUGMENTATIONS)])
    def test_outputs_of_a_job_are_of_what_its_batches_show(
        self, student: StudentConfig, augment: tuple[str, ...], views: int | None
    ) -> None:
        config = replace(
            student, training=TrainingConfig(epochs=3, augment=augment), teachers=TeacherConfig(views=views)
        )
        job = resolve_student(config)
        training = job.start()
        assert isinstance(training.objective, Distillation)
        for _ in range(3):
            batch = next(training.batches.epoch())
            expected = job.teachers[0].classifier(batch.images).detach()
            torch.testing.assert_close(training.objective.teacher(batch), expected)

    @pytest.mark.parametrize(
        ("teacher_macs", "asked", "views"),
        [(10**6, None, 0), (10**6 + 1, None, 8), (10**6 + 1, 0, 0), (10**6, 4, 4), (10**6, 99, 20)],
    )
    def test_expensive_teachers_have_views_unless_told_otherwise(
        self, student: StudentConfig, teacher_macs: int, asked: int | None, views: int
    ) -> None:
        config = replace(student, training=TrainingConfig(epochs=20, augment=("shift",)))
        job = resolve_student(replace(config, teachers=TeacherConfig(views=asked)))
        setattr(job.teachers[0].classifier.network, "macs", teacher_macs)  # noqa: B010
        assert job.teacher_views == views

    def test_an_expensive_student_has_a_live_teacher(self, student: StudentConfig) -> None:
        """Its step of three passes costs more than a teacher of 1.1 million multiply-accumulates."""
        job = resolve_student(replace(student, architecture=parse_spec("mlp-500"), training=self.AUGMENTED))
        setattr(job.teachers[0].classifier.network, "macs", 1_100_000)  # noqa: B010
        assert job.teacher_views == 0

    @pytest.mark.parametrize("change", [{"training": TrainingConfig(epochs=3)}, {"method": FROM_LABELS}], ids=str)
    def test_are_of_no_use_without_augmentation_or_teacher(
        self, student: StudentConfig, change: dict[str, Any]
    ) -> None:
        config = replace(student, training=self.AUGMENTED, teachers=TeacherConfig(views=4))
        assert resolve_student(config).teacher_views == 3
        assert resolve_student(replace(config, **change)).teacher_views == 0

    def test_change_identity_and_description(self, student: StudentConfig) -> None:
        config = replace(student, training=self.AUGMENTED)
        live, two = (resolve_student(replace(config, teachers=TeacherConfig(views=views))) for views in (0, 2))
        assert live.identity() != two.identity()
        assert "teacher_views" not in live.options()
        assert two.options()["teacher_views"] == 2


class TestIdentity:
    @pytest.mark.parametrize(
        "change",
        [
            lambda config: replace(config, architecture=parse_spec("mlp-9")),
            lambda config: replace(config, method=MethodConfig("kd", temperature=2)),
            lambda config: replace(config, method=MethodConfig("rkd")),
            lambda config: replace(config, labels=LabelConfig(0.5)),
            lambda config: replace(config, labels=LabelConfig(omit_class=("3",))),
            lambda config: replace(config, labels=LabelConfig(only_classes=("7", "8"))),
            *[
                lambda config, change=change: replace(config, training=replace(config.training, **change))
                for change in ({"epochs": 2}, {"batch_size": 32}, {"lr": 0.01}, {"augment": ("warp",)}, {"seed": 1})
            ],
        ],
    )
    def test_every_option_that_changes_the_weights_changes_it(
        self, student: StudentConfig, change: Callable[[StudentConfig], StudentConfig]
    ) -> None:
        assert resolve_student(change(student)).identity() != resolve_student(student).identity()

    def test_another_teacher_at_the_same_path_changes_it(
        self, student: StudentConfig, data: DataConfig, run: RunConfig
    ) -> None:
        before = resolve_student(student).identity()
        train_teacher(parse_spec("mlp-16"), data, TrainingConfig(epochs=1, seed=9), run)
        assert resolve_student(student).identity() != before

    def test_other_labels_under_the_same_name_change_it(
        self, data: DataConfig, run: RunConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        dataset = make_dataset(classes=3)
        scrambled = replace(dataset, train=replace(dataset.train, labels=dataset.train.labels.flip(0)))
        identities = []
        for number, each in enumerate((dataset, scrambled)):
            register(monkeypatch, "three", each)
            place = DataConfig("three", tmp_path / str(number))
            identities.append(resolve_teacher(MLP, place, TrainingConfig(), run).identity())
        assert identities[0] != identities[1]

    def test_where_files_lie_does_not_change_it(self, student: StudentConfig, tmp_path: Path) -> None:
        teacher = resolve_student(student).teachers[0].path
        moved = tmp_path / "elsewhere.safetensors"
        moved.write_bytes(teacher.read_bytes())
        config = replace(student, teachers=TeacherConfig((moved,)))
        assert resolve_student(config).identity() == resolve_student(student).identity()


class TestTesting:
    def test_without_checkpoints_the_data_sets_teacher_and_student_are_tested(
        self, student: StudentConfig, run: RunConfig
    ) -> None:
        distill(student)
        dataset, checkpoints = open_for_testing(student.data, run, [])
        assert [checkpoint.path.name for checkpoint in checkpoints] == ["teacher.safetensors", "student.safetensors"]
        assert (len(dataset.test), len(dataset.train)) == (500, 0)

    def test_what_was_not_trained_here_is_what_ships(
        self, data: DataConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        _, checkpoints = open_for_testing(data, RunConfig(), [])
        assert [describe_model(checkpoint).shipped for checkpoint in checkpoints] == [True, True]

    def test_a_models_folder_that_was_named_and_has_nothing_is_refused(self, data: DataConfig, run: RunConfig) -> None:
        with pytest.raises(KdError, match=r"no teacher or student for digits in .*check --models-dir"):
            open_for_testing(data, run, [])

    def test_a_checkpoint_decides_the_data_set(self, data: DataConfig, run: RunConfig, checkpoint: Checkpoint) -> None:
        dataset, _ = open_for_testing(replace(data, dataset="auto"), run, [checkpoint.path])
        assert dataset.info.name == "digits"

    def test_a_checkpoint_of_another_data_set_is_refused(
        self, data: DataConfig, run: RunConfig, checkpoint: Checkpoint
    ) -> None:
        other = replace(checkpoint.metadata, data=replace(checkpoint.metadata.data, name="mnist"))
        path = checkpoint.path.with_name("letters.safetensors")
        save_checkpoint(path, checkpoint.classifier.network, other)
        with pytest.raises(KdError, match="trained on mnist"):
            open_for_testing(data, run, [path])

    def test_a_model_is_described_by_what_its_checkpoint_says(self, checkpoint: Checkpoint) -> None:
        described = describe_model(checkpoint)
        assert (described.role, described.architecture, described.method) == ("teacher", "mlp-16", "labels")
        assert (described.checkpoint, described.shipped) == (str(checkpoint.path), False)
