"""Kept runs of a comparison that cannot be true are carried out again, and said to be."""

import json
import os
from pathlib import Path

import pytest

from tests.conftest import CommandLine

COMPARE = ("compare", "-d", "digits", "--students", "mlp-8", "--seeds", "2", "-e", "1", "--jobs", "1", "--json")


@pytest.fixture
def kept(kd: CommandLine) -> list[Path]:
    """The files of four finished runs."""
    kd("train-teacher", "-d", "digits", "--arch", "mlp-16", "-e", "1")
    kd(*COMPARE)
    return sorted(Path("runs/results/digits").iterdir())


def carried_out(kd: CommandLine, *options: str) -> tuple[int, str]:
    code, stdout, stderr = kd(*COMPARE, *options)
    assert code == 0, stderr
    return json.loads(stdout)["runs"]["carried_out"], stderr


def test_sound_ones_are_found(kd: CommandLine, kept: list[Path]) -> None:
    assert carried_out(kd) == (0, "")


def test_fresh_ignores_them(kd: CommandLine, kept: list[Path]) -> None:
    assert carried_out(kd, "--fresh")[0] == 4


@pytest.mark.parametrize(
    ("measure", "value"),
    [
        ("accuracy", "NaN"),
        ("accuracy", "55"),
        ("accuracy", "0.123"),
        ("error_count", "-1"),
        ("agreement", "1e999"),
        ("nll", "1e999"),
        ("ece", '"0.1"'),
        ("train_seconds", "null"),
        ("seed", "7"),
        ("fault", "7"),
    ],
)
def test_values_that_cannot_be_true_are_not_believed(
    kd: CommandLine, kept: list[Path], measure: str, value: str
) -> None:
    record = json.loads(kept[0].read_text())
    record["measures"][measure] = "?"
    kept[0].write_text(json.dumps(record).replace('"?"', value))
    count, stderr = carried_out(kd)
    assert count == 1
    assert (stderr.count("\n"), str(kept[0]) in stderr) == (1, True)


@pytest.mark.parametrize("content", ["", "{}", "[" * 100_000, '{"measures": {}, "identity": {}}', "\x00"])
def test_files_of_anything_else_are_not_believed(kd: CommandLine, kept: list[Path], content: str) -> None:
    kept[0].write_text(content)
    assert carried_out(kd)[0] == 1


def test_a_notice_names_one_of_them_and_says_how_many_there_are(kd: CommandLine, kept: list[Path]) -> None:
    for path in kept[1:]:
        path.write_text("")
    count, stderr = carried_out(kd)
    assert count == 3
    assert "one of 3 such files: these runs are carried out again" in stderr
    assert any(str(path) in stderr for path in kept[1:])
    assert carried_out(kd) == (0, "")


def test_a_missing_measure_is_not_believed(kd: CommandLine, kept: list[Path]) -> None:
    record = json.loads(kept[0].read_text())
    del record["measures"]["nll"]
    kept[0].write_text(json.dumps(record))
    assert carried_out(kd)[0] == 1


@pytest.mark.skipif(os.name != "posix", reason="needs a pipe in the file system")
def test_a_pipe_in_their_place_does_not_hang(kd: CommandLine, kept: list[Path]) -> None:
    kept[0].unlink()
    os.mkfifo(kept[0])
    count, stderr = carried_out(kd)
    assert count == 1
    assert f"{kept[0]} is no finished run" in stderr
    assert carried_out(kd) == (0, "")
