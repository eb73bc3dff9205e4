"""Runtimes as tables, in words and as a plot."""

import pytest

from kd_cli.report.benchmark import draw_benchmark, print_benchmark
from kd_cli.report.runtimes import runtimes_in_words
from tests.report.axes import axes_of
from tests.report.conftest import Printed
from tests.report.results import benchmark_result, runtime_result, runtimes_result


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("│").split("│")]


def test_every_runtime_of_every_network_has_its_row(printed: Printed) -> None:
    rows = [cells(line) for line in printed(print_benchmark, runtimes_result()).splitlines() if line.startswith("│")]
    assert rows == [
        ["Teacher cnn-32", "torch", "99.00%", "271,144", "12.5", "0.250", "0.500", "0.750", "50,000", "64"],
        ["", "onnx", "99.00%", "271,144", "12.5", "0.125", "0.250", "0.375", "50,000", "64"],
        ["", "onnx-int8", "98.75%", "73,737", "12.5", "0.062", "0.125", "0.188", "50,000", "64"],
        ["Student mlp-128", "torch", "98.50%", "407,080", "12.5", "0.125", "0.250", "0.375", "50,000", "64"],
        ["", "onnx", "98.50%", "407,080", "12.5", "0.050", "0.100", "0.150", "50,000", "64"],
        ["", "onnx-int8", "98.50%", "407,080", "12.5", "0.075", "0.150", "0.225", "50,000", "64"],
        ["Teacher cnn-32", "torch", "0.500", "1.000", "1.500", "50,000", "64"],
        ["", "onnx", "0.250", "0.500", "0.750", "50,000", "64"],
        ["", "onnx-int8", "0.125", "0.250", "0.375", "50,000", "64"],
        ["Student mlp-128", "torch", "0.250", "0.500", "0.750", "50,000", "64"],
        ["", "onnx", "0.100", "0.200", "0.300", "50,000", "64"],
        ["", "onnx-int8", "0.150", "0.300", "0.450", "50,000", "64"],
    ]


def test_tables_name_the_data_the_device_and_the_threads(printed: Printed) -> None:
    out = printed(print_benchmark, runtimes_result())
    assert "Runtimes on some-data, 1 thread: latency of one image (ms), throughput in batches" in out
    assert "Runtimes on some-data, 2 threads: latency of one image (ms), throughput in batches" in out
    assert out.count("cpu (1 thread)") == 2
    assert "Teacher: models/teacher.safetensors" in out


def test_networks_of_one_kind_are_told_apart(printed: Printed) -> None:
    rows = [runtime_result(checkpoint=f"{name}.safetensors") for name in ("a", "b")]
    out = printed(print_benchmark, runtimes_result(*rows))
    names = [cells(line)[0] for line in out.splitlines() if "torch" in line]
    assert names == ["Teacher 1 cnn-32", "Teacher 2 cnn-32"] * 2


def test_runtimes_are_compared_with_torch_and_8_bits_with_32() -> None:
    assert runtimes_in_words(runtimes_result().runtimes) == [
        "Teacher cnn-32, one image, one thread, times as fast as torch: onnx 2.0, onnx-int8 4.0.",
        "Student mlp-128, one image, one thread, times as fast as torch: onnx 2.5, onnx-int8 1.7.",
        "Student mlp-128: on this processor 8 bits take 1.5 times as long as 32.",
    ]


@pytest.mark.parametrize("runtime", ["torch", "onnx", "onnx-int8"])
def test_a_runtime_alone_is_compared_with_none(runtime: str) -> None:
    assert runtimes_in_words([runtime_result(runtime=runtime)]) == []


def test_without_runtimes_the_table_is_that_of_the_networks(printed: Printed) -> None:
    out = printed(print_benchmark, benchmark_result())
    assert "Cost on some-data" in out
    assert "Runtimes" not in out


def test_the_plot_shows_accuracy_against_latency_for_each_number_of_threads() -> None:
    pytest.importorskip("matplotlib", reason="plots need the extra 'plot'")
    result = runtimes_result()
    figure = draw_benchmark(result)
    panels = axes_of(figure)
    assert [panel.get_xlabel() for panel in panels] == [
        f"Latency of one image, {threads} (ms):\np50, with a bar to p95" for threads in ("1 thread", "2 threads")
    ]
    for number, panel in enumerate(panels):
        assert panel.get_xlim()[0] == 0
        for container, row in zip(panel.containers, result.runtimes, strict=True):
            latency = row.speeds[number].latency_ms
            assert container[0].get_xydata().tolist() == [[latency.p50, 100 * row.accuracy]]
            (bar,) = container[2][0].get_segments()
            assert bar[:, 0].tolist() == pytest.approx([latency.p50, latency.p95])
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()][:3] == [
        "Teacher cnn-32, torch: 271 kB",
        "Teacher cnn-32, onnx: 271 kB",
        "Teacher cnn-32, onnx-int8: 74 kB",
    ]
