import pytest

from kd_cli.app.events import Began, Evaluated, Event, Failed, Measured, Progressed, Trained, decode, encode
from tests.report.results import benchmark_result, training_result


@pytest.mark.parametrize(
    "event",
    [
        Began(938),
        Progressed(50, 1.5, 0.25),
        Evaluated(938, 0.9813),
        Trained(training_result()),
        Measured(benchmark_result()),
        Measured(benchmark_result(student_speedup=None)),
        Failed('no "teacher"\n'),
    ],
    ids=lambda event: type(event).__name__,
)
def test_an_event_arrives_as_it_was_sent(event: Event) -> None:
    line = encode(event)
    assert "\n" not in line
    assert decode(line + "\n") == event


@pytest.mark.parametrize(
    "line",
    [
        "",
        "Downloading 100%",
        "\ufffd\ufffd",
        "3",
        "null",
        "[]",
        "{}",
        '{"event": "Nothing"}',
        '{"event": ["Evaluated"]}',
        '{"event": "Evaluated", "step": 1}',
        '{"event": "Evaluated", "step": 1, "accuracy": 1, "more": 1}',
        '{"event": "Trained", "result": 7}',
    ],
)
def test_a_line_that_is_no_event_is_none(line: str) -> None:
    assert decode(line) is None
