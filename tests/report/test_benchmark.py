"""Tables of cost, and cost in words."""

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
