"""Results as JSON: the keys that other programs rely on, and nothing that is no JSON."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kd_cli.commands.results import Score
from kd_cli.config import Role
from kd_cli.report.as_json import as_plain, print_json
from tests.report import results
from tests.report.conftest import Printed

DOCUMENTED = {
    "training": (
        results.training_result(),
        "dataset device seed architecture method epochs checkpoint accuracy error_count train_seconds history",
    ),
    "ensemble": (
        results.ensemble_result(),
        "dataset device seed architecture method epochs checkpoint accuracy error_count train_seconds history members",
    ),
    "epoch": (results.training_result().history[0], "epoch loss accuracy seconds"),
    "evaluate": (results.evaluation_result(), "dataset device models"),
    "evaluated model": (
        results.evaluated_model(),
        "role checkpoint architecture parameters accuracy error_count nll ece agreement per_class_accuracy confusion",
    ),
    "benchmark": (results.benchmark_result(), "dataset device threads cores load_average models student_speedup"),
    "benchmarked model": (
        results.benchmarked_model(),
        "role checkpoint architecture parameters macs size_bytes accuracy latency_ms throughput_per_s test_set_seconds",
    ),
    "compare": (results.comparison_result(), "dataset seeds cells failed"),
    "cell": (results.cell_result("kd"), "student method options mean std runs difference"),
    "difference": (results.BETTER, "mean interval verdict"),
    "latency": (results.benchmarked_model().latency_ms, "p25 p50 p75 p95"),
    "predict": (results.prediction_result(), "images dataset device models accuracy"),
    "image": (results.image_prediction(), "file error teacher student agree"),
    "prediction": (results.prediction(1, 2), "class confidence probabilities"),
}


@dataclass(frozen=True)
class Example:
    """A result with a field that has another key, and one that is left out."""

    plain: Any
    class_index: int = field(default=3, metadata={"json": "class"})
    pixels: int = field(default=0, metadata={"json": None})


def refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


@pytest.mark.parametrize("name", DOCUMENTED)
def test_the_documented_keys_are_there(name: str) -> None:
    result, keys = DOCUMENTED[name]
    assert as_plain(result).keys() >= set(keys.split())


def test_a_field_has_the_key_that_its_metadata_says_or_none() -> None:
    assert as_plain(Example("x")) == {"plain": "x", "class": 3}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Role.teacher, "teacher"),
        (Path("a") / "b", str(Path("a/b"))),
        ((1, (2.5, None)), [1, [2.5, None]]),
        ({Role.student: (True,)}, {"student": [True]}),
        (np.float32(0.5), 0.5),
        (np.int64(3), 3),
        (np.array([[1, 2]], np.uint8), [[1, 2]]),
        ({"inner": Score(1, 2, 0.5)}, {"inner": {"correct": 1, "images": 2, "accuracy": 0.5}}),
    ],
    ids=repr,
)
def test_values_become_plain(value: object, expected: object) -> None:
    found = as_plain(Example(value))["plain"]
    assert found == expected
    assert json.loads(json.dumps(found)) == expected


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -np.inf, np.float32("nan"), np.array(np.nan)], ids=repr)
def test_what_is_not_finite_becomes_null(printed: Printed, value: object) -> None:
    out = printed(print_json, Example({"inner": [value, 1.0]}))
    assert json.loads(out, parse_constant=refuse)["plain"] == {"inner": [None, 1.0]}


def test_exactly_one_object_is_printed(printed: Printed) -> None:
    out = printed(print_json, results.prediction_result(results.failed_prediction("a\udcff.png")))
    (image,) = json.loads(out)["images"]
    assert (image["file"], image["teacher"], image["agree"]) == ("a\udcff.png", None, None)
