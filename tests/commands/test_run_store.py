"""Kept runs: found by everything that decides them, and by nothing else."""

import json
import shutil
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest

from kd_cli.commands import job as job_room
from kd_cli.commands import run_store
from kd_cli.commands.grid import Cell
from kd_cli.commands.job import Job, StudentConfig
from kd_cli.commands.resolve import resolve_student, resolve_teacher
from kd_cli.commands.results import RunMeasures
from kd_cli.commands.run_store import RunStore
from kd_cli.commands.runs import Run
from kd_cli.commands.train_teacher import train_teacher
from kd_cli.config import DataConfig, LabelConfig, OutputConfig, RunConfig, TeacherConfig, TrainingConfig
from kd_cli.distillation.methods import FROM_LABELS, MethodConfig
from kd_cli.networks.spec import parse_spec
from kd_cli.version import PACKAGE, source_digest
from tests.conftest import make_dataset
from tests.sources import register

MEASURES = RunMeasures(3, accuracy=0.9, error_count=50, agreement=0.9, nll=0.3, ece=0.01, train_seconds=1.0)
MLP, CNN = parse_spec("mlp-8"), parse_spec("cnn-4")


@pytest.fixture
def kept(student: StudentConfig) -> Run:
    """A run of the default method with seed 3, which the tests keep."""
    return Run(Cell(MLP, MethodConfig()), 3, student)


@pytest.fixture
def job(student: StudentConfig) -> Job:
    return resolve_student(student)


@pytest.fixture
def store(tmp_path: Path, job: Job, kept: Run) -> RunStore:
    """A store with that run in it."""
    store = RunStore(tmp_path / "results", job)
    store.keep(kept, MEASURES)
    return store


def find(store: RunStore, config: StudentConfig, kept: Run) -> RunMeasures | None:
    """The kept run, looked for by a command that was given this configuration."""
    return RunStore(store.folder, resolve_student(config)).find(replace(kept, common=config))


def test_a_kept_run_comes_back_as_it_was(store: RunStore, kept: Run, student: StudentConfig) -> None:
    assert store.find(kept) == MEASURES
    assert find(store, student, kept) == MEASURES


@pytest.mark.parametrize(
    ("cell", "seed"),
    [
        (Cell(MLP, MethodConfig()), 4),
        (Cell(CNN, MethodConfig()), 3),
        (Cell(MLP, MethodConfig("kd", temperature=2)), 3),
        (Cell(MLP, MethodConfig("rkd")), 3),
        (Cell(MLP, FROM_LABELS), 3),
    ],
    ids=str,
)
def test_it_does_not_stand_for_another_run(store: RunStore, kept: Run, cell: Cell, seed: int) -> None:
    assert store.find(replace(kept, cell=cell, seed=seed)) is None


@pytest.mark.parametrize(
    "change",
    [
        {"training": TrainingConfig(epochs=2)},
        {"training": TrainingConfig(epochs=1, lr=0.01)},
        {"training": TrainingConfig(epochs=1, augment=("shift",))},
        {"labels": LabelConfig(0.5)},
        {"labels": LabelConfig(omit_class=("3",))},
    ],
    ids=["epochs", "learning rate", "augmentation", "labels", "classes"],
)
def test_it_does_not_stand_for_other_options(
    store: RunStore, kept: Run, student: StudentConfig, change: dict[str, TrainingConfig]
) -> None:
    assert find(store, replace(student, **change), kept) is None  # type: ignore[arg-type]


def test_the_seed_that_a_comparison_starts_from_does_not_matter(
    store: RunStore, kept: Run, student: StudentConfig
) -> None:
    assert find(store, replace(student, training=replace(student.training, seed=1)), kept) == MEASURES


@pytest.mark.parametrize("method", [MethodConfig(), FROM_LABELS], ids=str)
def test_another_teacher_at_the_same_path_finds_nothing(
    store: RunStore, kept: Run, student: StudentConfig, method: MethodConfig
) -> None:
    # Not even the baseline: its agreement is with that teacher.
    run = replace(kept, cell=Cell(MLP, method))
    store.keep(run, MEASURES)
    train_teacher(parse_spec("mlp-16"), student.data, TrainingConfig(epochs=2, seed=9), student.run)
    assert find(store, student, run) is None


def test_the_same_teacher_at_another_path_is_the_same(
    store: RunStore, kept: Run, student: StudentConfig, tmp_path: Path
) -> None:
    moved = tmp_path / "moved.safetensors"
    shutil.copy(resolve_student(student).teachers[0].path, moved)
    assert find(store, replace(student, teachers=TeacherConfig((moved,))), kept) == MEASURES


def test_another_teacher_beside_the_first_finds_nothing(
    store: RunStore, kept: Run, student: StudentConfig, run: RunConfig, tmp_path: Path
) -> None:
    paths = (resolve_student(student).teachers[0].path, tmp_path / "second")
    train_teacher(parse_spec("mlp-4"), student.data, TrainingConfig(epochs=1), run, OutputConfig(paths[1]))
    assert find(store, replace(student, teachers=TeacherConfig(paths)), kept) is None


def test_other_data_under_the_same_name_finds_nothing(
    monkeypatch: pytest.MonkeyPatch, run: RunConfig, kept: Run, tmp_path: Path
) -> None:
    dataset = make_dataset(classes=3)
    scrambled = replace(dataset, train=replace(dataset.train, labels=dataset.train.labels.flip(0)))
    found, measures = [], replace(MEASURES, error_count=20)  # of 200 test images
    for name, each in (("first", dataset), ("scrambled", scrambled), ("first again", dataset)):
        register(monkeypatch, "three", each)
        data = DataConfig("three", tmp_path / name)
        job = replace(resolve_teacher(MLP, data, TrainingConfig(), run), method=MethodConfig())
        store = RunStore(tmp_path / "results", job)
        found.append(store.find(kept))
        if name == "first":
            store.keep(kept, measures)
    assert found == [None, None, measures]


@pytest.mark.parametrize("name", ["kd", "torch"])
def test_another_version_finds_nothing(monkeypatch: pytest.MonkeyPatch, store: RunStore, kept: Run, name: str) -> None:
    monkeypatch.setitem(job_room.VERSIONS, name, "99.0")
    assert store.find(kept) is None


@pytest.mark.parametrize("library", ["torchvision", "timm"])
def test_another_version_of_a_library_finds_no_run_of_a_network_that_is_not_ours(
    monkeypatch: pytest.MonkeyPatch, store: RunStore, kept: Run, library: str
) -> None:
    foreign = replace(kept, cell=Cell(parse_spec("tests.networks.users:Small"), MethodConfig()))
    store.keep(foreign, MEASURES)
    version = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "99.0" if name == library else version(name))
    assert store.find(foreign) is None
    assert store.find(kept) == MEASURES  # what no library has a part in


def test_an_edited_source_finds_nothing(monkeypatch: pytest.MonkeyPatch, store: RunStore, kept: Run) -> None:
    monkeypatch.setattr(run_store, "source_digest", lambda: "edited")
    assert store.find(kept) is None


@pytest.mark.parametrize(("key", "number"), [("error_count", 50), ("seed", 3)])
def test_a_count_that_is_no_whole_number_is_not_believed(store: RunStore, kept: Run, key: str, number: int) -> None:
    (path,) = store.folder.rglob("*.json")
    record = json.loads(path.read_text())
    assert record["measures"][key] == number
    record["measures"][key] = float(number)
    path.write_text(json.dumps(record))
    assert store.find(kept) is None


@pytest.mark.parametrize("content", [b"", b"junk", b"[]", b"{}", b'{"identity": {}, "measures": {}}', b"\xff\xfe"])
def test_a_file_that_holds_no_run_is_as_good_as_none(store: RunStore, kept: Run, content: bytes) -> None:
    (path,) = store.folder.rglob("*.json")
    path.write_bytes(content)
    assert store.find(kept) is None


def test_a_file_that_was_cut_off_is_as_good_as_none(store: RunStore, kept: Run) -> None:
    (path,) = store.folder.rglob("*.json")
    path.write_bytes(path.read_bytes()[:-1])
    assert store.find(kept) is None


def test_measures_of_a_changed_identity_are_not_taken(store: RunStore, kept: Run) -> None:
    (path,) = store.folder.rglob("*.json")
    record = json.loads(path.read_text())
    record["identity"]["lr"] = 1.0
    path.write_text(json.dumps(record))
    assert store.find(kept) is None


def test_a_files_name_says_which_run_it_is(store: RunStore) -> None:
    (path,) = store.folder.rglob("*.json")
    assert path.relative_to(store.folder).as_posix().startswith("digits/mlp-8-kd-seed3-")


def test_a_run_of_a_users_network_is_kept_in_the_same_folder(store: RunStore, tmp_path: Path, kept: Run) -> None:
    source = tmp_path / "nets.py"
    source.write_text("from torch import nn\ndef small(): return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))\n")
    cell = Cell(parse_spec(f"{source}:small"), MethodConfig())
    store.keep(replace(kept, cell=cell), MEASURES)
    assert store.find(replace(kept, cell=cell)) == MEASURES
    assert len(list(store.folder.rglob("*.json"))) == 2


class TestTheSourceDigest:
    @pytest.fixture
    def copy(self, tmp_path: Path) -> Path:
        return Path(shutil.copytree(PACKAGE, tmp_path / "kd_cli", ignore=shutil.ignore_patterns("__pycache__")))

    def test_is_that_of_an_equal_copy(self, copy: Path) -> None:
        assert source_digest(copy) == source_digest()

    @pytest.mark.parametrize(
        "room",
        [
            *("config.py", "distillation/losses.py", "training/loop.py", "data/batches.py", "networks/reference.py"),
            *("evaluation/quality.py", "commands/runs.py", "commands/job.py", "distillation/new.py"),
            *("commands/resolve.py", "commands/grid.py"),
        ],
    )
    def test_changes_with_code_that_computes_a_run(self, copy: Path, room: str) -> None:
        with open(copy / room, "a") as file:
            file.write("# edited\n")
        assert source_digest(copy) != source_digest()

    @pytest.mark.parametrize("room", ["report/tables.py", "cli.py", "commands/evaluate.py", "digits/ink.py"])
    def test_does_not_change_with_other_code(self, copy: Path, room: str) -> None:
        with open(copy / room, "a") as file:
            file.write("# edited\n")
        assert source_digest(copy) == source_digest()
