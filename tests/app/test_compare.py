import re
from pathlib import Path
from unittest.mock import Mock

import pytest

from kd_cli.app import compare
from kd_cli.app.events import Measured
from kd_cli.commands.evaluate import evaluate
from kd_cli.config import DataConfig, KdError
from tests.app.conftest import Visit
from tests.app.images import html, plain
from tests.report.results import benchmark_result, evaluated_model, evaluation_result


@pytest.fixture
def carry_out(monkeypatch: pytest.MonkeyPatch) -> Mock:
    """Stands in for the process that measures costs."""
    stand_in = Mock(return_value=Measured(benchmark_result()))
    monkeypatch.setattr(compare, "carry_out", stand_in)
    return stand_in


@pytest.mark.slow
def test_the_page_shows_what_the_commands_measure(visit: Visit, data_dir: Path) -> None:
    shown = html(visit("compare"))
    for model in evaluate(data=DataConfig("digits", data_dir)).models:
        assert f"{model.accuracy:.2%}" in shown
        assert f"{model.nll:.4f}" in shown
        assert f"{model.parameters:,}" in shown
    assert "Latency p95" in shown


def test_costs_are_measured_once_and_again_when_asked(visit: Visit, carry_out: Mock) -> None:
    page = visit("compare")
    page.run()
    assert carry_out.call_count == 1
    page.button[0].click().run()
    assert carry_out.call_count == 2


def test_a_measurement_that_failed_is_a_message_and_is_tried_again(visit: Visit, carry_out: Mock) -> None:
    carry_out.side_effect = KdError("no result after 120 seconds")
    page = visit("compare")
    assert "no result after 120 seconds" in plain(page.error[0])
    page.run()
    assert carry_out.call_count == 2


def test_bars_of_all_classes_have_one_scale(visit: Visit, carry_out: Mock, monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = evaluated_model("teacher", confusion=((8, 2), (0, 10)))
    student = evaluated_model("student", confusion=((6, 4), (1, 9)))
    result = evaluation_result(classes=("cat", "dog"), models=(teacher, student))
    monkeypatch.setattr(compare, "evaluate", lambda *arguments: result)
    rows = re.findall(r"Errors in class \w+</th>(.*?)</tr>", html(visit("compare")))
    assert [re.findall(r">(\d+)<div .*?width:([\d.]+)%", row) for row in rows] == [
        [("2", "50.0"), ("4", "100.0")],
        [("0", "0.0"), ("1", "25.0")],
    ]
