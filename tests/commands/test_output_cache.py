"""Teachers' outputs on disk, from the commands that use them: other commands' files, or bad ones, change no result."""

import json
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from kd_cli.distillation import teacher_outputs
from kd_cli.distillation.output_cache import OutputCache, describe
from tests.conftest import CommandLine

TEACHER = ("train-teacher", "-d", "digits", "--arch", "cnn-4", "-e", "1")
STUDENT = ("distill", "-d", "digits", "--student", "mlp-8", "-e", "2")
VIEWS = ("--augment", "shift,warp", "--teacher-views", "2")
CACHE = Path("cache")


@pytest.fixture(autouse=True)
def all_are_worth_keeping(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teacher_outputs, "MACS_WORTH_KEEPING", 0)
    monkeypatch.setenv("KD_CACHE_DIR", str(CACHE))


@pytest.fixture
def teacher(kd: CommandLine) -> None:
    assert kd(*TEACHER)[0] == 0


def distil(kd: CommandLine, *options: str) -> tuple[bytes, str]:
    """The student's file, and what was said on the way."""
    code, _, stderr = kd(*STUDENT, *options, "-o", "student")
    assert code == 0, stderr
    content = Path("student").read_bytes()
    Path("student").unlink()
    return content, stderr


@pytest.mark.usefixtures("teacher")
@pytest.mark.parametrize("options", [(), VIEWS, ("--method", "fitnet", "--force", *VIEWS)], ids=" ".join)
def test_student_is_the_same_with_an_empty_a_full_a_damaged_and_no_cache(
    kd: CommandLine, options: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    empty, _ = distil(kd, *options)
    assert describe(CACHE).files == (2 if options else 1)
    full, silent = distil(kd, *options)
    for path in CACHE.iterdir():
        path.write_bytes(path.read_bytes()[:-4])
    damaged, said = distil(kd, *options)
    Path("file").write_text("no folder")
    unwritable, warned = distil(kd, *options, "--cache-dir", "file")
    monkeypatch.setattr(teacher_outputs, "MACS_WORTH_KEEPING", 10**20)
    assert {empty, full, damaged, unwritable} == {distil(kd, *options)[0]}
    assert silent == ""
    assert "computed anew" in said
    assert "only a matter of speed" in warned


@pytest.mark.usefixtures("teacher")
def test_another_seed_and_method_find_the_outputs(kd: CommandLine) -> None:
    distil(kd, *VIEWS)
    distil(kd, *VIEWS, "--seed", "5", "--method", "dkd", "-e", "2")
    assert describe(CACHE).files == 2
    distil(kd, *VIEWS, "--train-fraction", "0.5")  # other images
    assert describe(CACHE).files == 4


def test_another_teacher_at_the_same_path_has_outputs_of_its_own(kd: CommandLine) -> None:
    students = []
    for seed in ("0", "1"):
        kd(*TEACHER, "--seed", seed)
        students.append(distil(kd)[0])
    assert describe(CACHE).files == 2
    assert students[0] != students[1]


@pytest.mark.usefixtures("teacher")
def test_a_comparison_computes_what_its_runs_share_once(kd: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[object] = []
    keep = OutputCache.keep

    def count(cache: OutputCache, details: Any, outputs: Tensor) -> None:
        kept.append(details)
        keep(cache, details, outputs)

    monkeypatch.setattr(OutputCache, "keep", count)
    command = ("compare", "-d", "digits", "--students", "mlp-8", "--methods", "kd,dkd", "--seeds", "2", "-e", "2")
    code, stdout, _ = kd(*command, *VIEWS, "--jobs", "2", "--json")
    assert code == 0
    assert len(kept) == 2  # by this process, for its workers
    alone = kd(*command, *VIEWS, "--jobs", "1", "--fresh", "--json", "--cache-dir", "other")[1]
    runs = [
        [{**run, "train_seconds": 0} for cell in json.loads(text)["cells"] for run in cell["runs"]]
        for text in (stdout, alone)
    ]
    assert runs[0] == runs[1]


@pytest.mark.usefixtures("teacher")
def test_list_cache_says_how_much_there_is_and_removes_it(kd: CommandLine) -> None:
    distil(kd, *VIEWS)
    size = sum(path.stat().st_size for path in CACHE.iterdir())
    found = {"folder": "cache", "files": 2, "size_bytes": size}
    assert json.loads(kd("list", "cache", "--json")[1]) == found
    assert kd("list", "cache")[1].startswith("2 files of teachers' outputs")
    assert kd("list", "cache", "--cache-dir", "other")[1].startswith("0 files")
    assert kd("list", "cache", "--clear")[1].startswith("Removed 2 files")
    assert list(CACHE.iterdir()) == []
