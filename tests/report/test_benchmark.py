"""Tables of cost, and cost in words."""

from typing import Any

import pytest

from kd_cli.evaluation.measures import Percentiles, Quartiles
from kd_cli.report.benchmark import COSTS, cost_in_words, print_benchmark
from tests.report.conftest import Printed
from tests.report.results import benchmark_result, benchmarked_model


def test_every_cost_is_shown_for_every_network(printed: Printed) -> None:
    result = benchmark_result()
    out = printed(print_benchmark, result)
    lines = [" ".join(line.replace("│", "").split()) for line in out.splitlines()]
    for row in COSTS:
        assert f"{row.name} {row.show(result.models[0])} {row.show(result.models[1])}" in lines
    assert "Latency p50, 1 image, 1 thread (ms) 0.250 0.125" in lines
    assert "MACs per image 386,816 101,632" in lines


def test_how_far_the_repeats_spread_stands_below_their_median(printed: Printed) -> None:
    lines = [
        " ".join(line.replace("│", "").split()) for line in printed(print_benchmark, benchmark_result()).splitlines()
    ]
    latency = lines.index("Latency p50, 1 image, 1 thread (ms) 0.250 0.125")
    throughput = lines.index("Images per second, batch 500 50,000 50,000")
    assert lines[latency + 1] == "middle half of the repeats 0.240-0.260 0.120-0.130"
    assert lines[throughput + 1] == "middle half of the repeats 49,000-51,000 49,000-51,000"


def test_a_student_with_more_parameters_and_fewer_macs_is_called_so(printed: Printed) -> None:
    speed, size = cost_in_words(benchmark_result())
    assert speed == "One image: the student is 2.0 times as fast as the teacher."
    assert "more parameters (1.50 times) and fewer multiply-accumulates (MACs, 0.26 times)" in size
    assert size.endswith("Parameters are not cost.")
    assert size in printed(print_benchmark, benchmark_result())


def test_a_student_as_large_as_its_teacher_is_called_so() -> None:
    models = (benchmarked_model("teacher"), benchmarked_model("student", parameters=67_786, macs=386_816))
    assert "as many parameters (1.00 times) and as many" in cost_in_words(benchmark_result(models=models))[1]


def test_networks_that_are_no_pair_are_not_compared() -> None:
    teachers = (benchmarked_model("teacher"), benchmarked_model("teacher"))
    assert cost_in_words(benchmark_result(models=teachers, student_speedup=None)) == []


SPREAD_LATENCY = {"latency_ms": Percentiles(0.2, 0.25, 0.3, 0.5, 0.75)}
SPREAD_THROUGHPUT = {"throughput_quartiles_per_s": Quartiles(30_000.0, 60_000.0)}


@pytest.mark.parametrize(
    ("machine", "model", "doubts"),
    [
        ({"load_average": 2.5}, {}, "load average 2.5 on 4 cores"),
        ({"load_average": 0.75, "cores": 1}, {}, "load average 0.8 on 1 core"),
        ({"load_average": None}, SPREAD_LATENCY, "the middle half of the repeats spreads over 40% of their median"),
        ({}, SPREAD_THROUGHPUT, "the middle half of the repeats spreads over 60% of their median"),
        (
            *({"load_average": 9.0}, SPREAD_LATENCY),
            "load average 9.0 on 4 cores; the middle half of the repeats spreads over 40% of their median",
        ),
    ],
)
def test_times_of_a_busy_machine_are_called_so(
    printed: Printed, machine: dict[str, Any], model: dict[str, Any], doubts: str
) -> None:
    models = (benchmarked_model("teacher"), benchmarked_model("student", **model))
    out = printed(print_benchmark, benchmark_result(models=models, **machine))
    assert f"Measured on a busy machine: {doubts}. Repeat it when other programs have ended." in out.splitlines()


@pytest.mark.parametrize("load", [None, 0.0, 2.0])
def test_times_of_an_idle_machine_are_not_doubted(printed: Printed, load: float | None) -> None:
    assert "busy" not in printed(print_benchmark, benchmark_result(load_average=load))
