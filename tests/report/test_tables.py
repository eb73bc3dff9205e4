"""What holds for every table."""

import dataclasses
import io
import re
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from kd_cli.report import tables
from kd_cli.report.benchmark import print_benchmark
from kd_cli.report.comparison import print_comparison
from kd_cli.report.evaluation import print_evaluation
from kd_cli.report.predictions import print_csv, print_images, print_predictions
from kd_cli.report.training import print_training
from tests.report import results
from tests.report.conftest import Printed

TEACHER, STUDENT = "models/teacher.safetensors", "models/student.safetensors"
TABLES: dict[str, tuple[Callable[[Any], None], Any, tuple[str, ...]]] = {
    "training": (print_training, results.training_result(), (TEACHER, STUDENT)),
    "ensemble": (print_training, results.ensemble_result(2), ("models/teacher-0.safetensors", "teacher-1.safetensors")),
    "evaluation": (
        partial(print_evaluation, details=True, confusion=True),
        results.evaluation_result(),
        (TEACHER, STUDENT),
    ),
    "benchmark": (print_benchmark, results.benchmark_result(), (TEACHER, STUDENT)),
    "comparison": (print_comparison, results.comparison_result(), (TEACHER,)),
    "predictions": (print_predictions, results.prediction_result(), (TEACHER, STUDENT)),
}


@pytest.mark.parametrize("name", TABLES)
def test_every_table_names_data_set_device_and_checkpoints(printed: Printed, name: str) -> None:
    function, result, checkpoints = TABLES[name]
    out = printed(function, result)
    for word in ("some-data", "cpu (1 thread)", *checkpoints):
        assert word in out


@pytest.mark.parametrize("name", TABLES)
def test_every_table_speaks_plain_standard_words(printed: Printed, name: str) -> None:
    function, result, _ = TABLES[name]
    assert (
        re.findall(r"(?i)\b(?:pictures?|taught|learnt|read|reads|right|wrong|says?)\b", printed(function, result)) == []
    )


@pytest.mark.parametrize("name", TABLES)
def test_names_that_look_like_markup_are_printed_as_they_are(printed: Printed, name: str) -> None:
    function, result, _ = TABLES[name]
    odd: dict[str, Any] = {"dataset": "[red]data[/red]", "device_name": "cpu [bold]"}
    members = getattr(result, "members", None)
    if members:
        odd["members"] = tuple(results.changed(member, **odd) for member in members)
    out = " ".join(printed(function, results.changed(result, **odd)).split())
    assert "[red]data[/red]" in out
    assert "cpu [bold]" in out


@pytest.mark.parametrize("name", ["evaluation", "benchmark", "predictions"])
def test_weights_that_ship_are_told_from_a_users_own(printed: Printed, name: str) -> None:
    function, result, _ = TABLES[name]
    teacher, student = result.models
    models = (results.changed(teacher, shipped=False), results.changed(student, shipped=True))
    lines = printed(function, results.changed(result, models=models)).splitlines()
    assert f"Teacher: {TEACHER}" in lines
    assert f"Student: {STUDENT} (ships with kd)" in lines


@pytest.mark.parametrize("name", ["evaluation", "benchmark", "predictions"])
def test_what_is_assumed_of_a_foreign_file_is_printed(printed: Printed, name: str) -> None:
    function, result, _ = TABLES[name]
    models = (result.models[0], results.changed(result.models[1], assumed=True, shipped=False))
    lines = printed(function, results.changed(result, models=models)).splitlines()
    assert f"Student: {STUDENT} (assumed: trained on some-data; the file does not say)" in lines


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_every_table_can_be_printed_in_few_letters(monkeypatch: pytest.MonkeyPatch, name: str, encoding: str) -> None:
    content = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(content, encoding=encoding))
    function, result, checkpoints = TABLES[name]
    function(result)
    for checkpoint in checkpoints:
        assert checkpoint in content.getvalue().decode(encoding)


@pytest.mark.parametrize("columns", [0, 1, 20])
@pytest.mark.parametrize("name", TABLES)
def test_every_table_is_whole_on_a_terminal_that_is_too_narrow(
    printed: Printed, terminal: Callable[[int], None], name: str, columns: int
) -> None:
    terminal(columns)
    function, result, checkpoints = TABLES[name]
    out = printed(function, result)
    assert "…" not in out
    for checkpoint in checkpoints:
        assert checkpoint in out


HOSTILE = "\x1b]0;title\x07\x1b[31m\x9b1m\r\n\u202e:heart:"
SHOWN = r"\x1b]0;title\x07\x1b[31m\x9b1m\r\n\u202e:heart:"


@pytest.mark.parametrize("name", TABLES)
def test_nothing_in_a_name_steers_the_terminal(printed: Printed, name: str) -> None:
    function, result, _ = TABLES[name]
    hostile: dict[str, Any] = {"dataset": HOSTILE, "classes": (HOSTILE,) * 3, "teachers": (HOSTILE,)}
    hostile["models"] = tuple(
        results.changed(model, checkpoint=HOSTILE, architecture=HOSTILE, method=HOSTILE)
        for model in getattr(result, "models", ())
    )
    if name == "predictions":
        hostile["images"] = (results.image_prediction(HOSTILE, label=HOSTILE),)
    if name == "ensemble":
        hostile["members"] = tuple(results.changed(member, dataset=HOSTILE) for member in result.members)
    fields = {field.name for field in dataclasses.fields(result)}
    out = printed(function, results.changed(result, **{key: hostile[key] for key in fields & hostile.keys()}))
    assert SHOWN in out
    assert set(out) & set(HOSTILE) - set(SHOWN) == {"\n"}


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
@pytest.mark.parametrize("function", [print_predictions, print_csv, print_images])
def test_characters_that_the_output_cannot_express_are_no_traceback(
    monkeypatch: pytest.MonkeyPatch, function: Callable[[Any], None], encoding: str
) -> None:
    content = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(content, encoding=encoding))
    function(results.prediction_result(results.image_prediction("a\udcff±.png")))
    sys.stdout.flush()
    assert content.getvalue().decode(encoding).count("a??.png" if encoding == "ascii" else "a?±.png") == 1


@pytest.mark.parametrize(("number", "text"), [(0, "0 epochs"), (1, "1 epoch"), (2, "2 epochs"), (1000, "1,000 epochs")])
def test_numbers_and_their_nouns_agree(number: int, text: str) -> None:
    assert tables.counted(number, "epoch") == text


def test_a_method_is_named_with_its_options() -> None:
    assert tables.describe_method("kd", {"temperature": 4.0, "alpha": 0.9}) == "kd (T 4, alpha 0.9)"
    assert tables.describe_method("labels", {}) == "labels"
