"""The cost of networks as a Rich table and in words."""

from collections.abc import Callable
from typing import NamedTuple

from kd_cli.commands.results import BenchmarkedModel, BenchmarkResult
from kd_cli.config import LATENCY_THREADS, THROUGHPUT_BATCH, Role
from kd_cli.report.tables import open_console, print_checkpoints, print_line, side_by_side


class CostRow(NamedTuple):
    """A thing that `kd benchmark` measures: its name with the unit, its value for a model, how the value is written."""

    name: str
    value: Callable[[BenchmarkedModel], float]
    form: str

    def show(self, model: BenchmarkedModel) -> str:
        """The value as tables show it."""
        return format(self.value(model), self.form)


COSTS = (
    CostRow("Parameters", lambda model: model.parameters, ","),
    CostRow("MACs per image", lambda model: model.macs, ","),
    CostRow("Bytes on disk", lambda model: model.size_bytes, ","),
    CostRow(f"Latency p50, 1 image, {LATENCY_THREADS} thread (ms)", lambda model: model.latency_ms.p50, ".3f"),
    CostRow(f"Latency p95, 1 image, {LATENCY_THREADS} thread (ms)", lambda model: model.latency_ms.p95, ".3f"),
    CostRow(f"Images per second, batch {THROUGHPUT_BATCH}", lambda model: model.throughput_per_s, ",.0f"),
    CostRow("Whole test set (s)", lambda model: model.test_set_seconds, ".3f"),
)


def print_benchmark(result: BenchmarkResult) -> None:
    """Cost of the networks, side by side, with the accuracy that it buys."""
    console = open_console()
    rows: list[tuple[str, Callable[[BenchmarkedModel], str]]] = [
        ("Architecture", lambda model: model.architecture),
        ("Accuracy", lambda model: f"{model.accuracy:.2%}"),
        *((row.name, row.show) for row in COSTS),
    ]
    console.print(side_by_side(f"Cost on {result.dataset}", result, result.models, rows))
    for sentence in cost_in_words(result):
        print_line(console, sentence)
    print_checkpoints(console, result.models)


def cost_in_words(result: BenchmarkResult) -> list[str]:
    """The student's cost beside its teacher's, in sentences; none unless there is one of each."""
    if result.student_speedup is None:
        return []
    teacher, student = (next(m for m in result.models if m.role == role.value) for role in (Role.teacher, Role.student))
    parameters, macs = student.parameters / teacher.parameters, student.macs / teacher.macs
    return [
        f"One image: the student is {result.student_speedup:.1f} times as fast as the teacher.",
        f"Compared with the teacher, the student has {_more(parameters)} parameters ({parameters:.2f} times) and "
        f"{_more(macs)} multiply-accumulates (MACs, {macs:.2f} times). Parameters are not cost.",
    ]


def _more(ratio: float) -> str:
    return "more" if ratio > 1 else "fewer" if ratio < 1 else "as many"
