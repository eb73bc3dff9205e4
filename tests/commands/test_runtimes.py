"""Networks in several runtimes: that each row is of its network and of what ran it."""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest
import torch

from kd_cli.commands.benchmark import benchmark
from kd_cli.commands.distill import distill
from kd_cli.commands.export import export
from kd_cli.commands.job import StudentConfig
from kd_cli.commands.results import BenchmarkResult, TrainingResult
from kd_cli.commands.train_teacher import train_teacher
from kd_cli.config import (
    ConfigError,
    DataConfig,
    DeviceName,
    ExportConfig,
    KdError,
    RunConfig,
    Runtime,
    TrainingConfig,
)
from kd_cli.evaluation.timing import torch_threads
from kd_cli.networks.checkpoint import load_checkpoint, save_checkpoint
from kd_cli.networks.spec import parse_spec
from tests.conftest import CommandLine, measure_briefly

pytest.importorskip("onnxruntime", reason="ONNX needs the extra 'export'")

pytestmark = [pytest.mark.usefixtures("short_measurements"), pytest.mark.slow]


@dataclass(frozen=True)
class Trained:
    """A teacher and a student, and where they are."""

    run: RunConfig
    teacher: TrainingResult
    student: TrainingResult


@pytest.fixture(scope="module")
def trained(data: DataConfig, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    run = RunConfig(tmp_path_factory.mktemp("models"), DeviceName.cpu)
    teacher = train_teacher(parse_spec("mlp-16"), data, TrainingConfig(epochs=2), run)
    assert isinstance(teacher, TrainingResult)
    student = StudentConfig(parse_spec("mlp-8"), data=data, run=run, training=TrainingConfig(epochs=2))
    return Trained(run, teacher, distill(student))


@pytest.fixture(scope="module")
def result(data: DataConfig, trained: Trained) -> BenchmarkResult:
    """All runtimes, where the compiler goes as far as the graph, which is quick."""
    with pytest.MonkeyPatch.context() as monkeypatch, torch_threads(2):
        measure_briefly(monkeypatch)
        monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
        return benchmark((), data, trained.run, runtimes=tuple(Runtime))


@pytest.fixture
def no_compiler() -> Iterator[None]:
    """A machine without a C++ compiler, which has compiled nothing before."""
    from torch._inductor import config

    with config.patch({"cpp.cxx": ("/nowhere/c++",), "force_disable_caches": True}):
        yield
    torch.compiler.reset()


def test_each_network_is_run_in_each_runtime(result: BenchmarkResult, trained: Trained) -> None:
    assert result.failed == ()
    assert [(row.role, row.runtime) for row in result.runtimes] == [
        (role, runtime.value) for role in ("teacher", "student") for runtime in Runtime
    ]
    for row in result.runtimes:
        expected = trained.teacher if row.role == "teacher" else trained.student
        assert (row.checkpoint, row.architecture) == (expected.checkpoint, expected.architecture)
        if row.runtime == Runtime.onnx_int8:
            assert row.precision == "int8"
            assert row.accuracy == pytest.approx(expected.accuracy, abs=0.02)
        else:
            assert row.precision == "float32"
            assert row.accuracy == expected.accuracy


def test_bytes_are_those_of_the_file_that_the_runtime_reads(result: BenchmarkResult) -> None:
    sizes = {(row.role, row.runtime): row.size_bytes for row in result.runtimes}
    for model in result.models:
        assert sizes[model.role, "torch"] == sizes[model.role, "torch-compile"] == model.size_bytes
        assert sizes[model.role, "onnx-int8"] < sizes[model.role, "onnx"]
        assert 4 * model.parameters < sizes[model.role, "onnx"] < 4 * model.parameters + 10_000  # and what it says


def test_speed_is_that_of_one_thread_and_of_all(result: BenchmarkResult) -> None:
    for row in result.runtimes:
        assert row.load_seconds > 0
        assert [speed.threads for speed in row.speeds] == [1, 2]
        for speed in row.speeds:
            latency = speed.latency_ms
            assert 0 < latency.p50 <= latency.p95 <= latency.p99
            assert speed.throughput_per_s > 0
            assert speed.batch_size.bit_count() == 1


def test_without_runtimes_none_is_measured(data: DataConfig, trained: Trained) -> None:
    result = benchmark((), data, trained.run)
    assert (result.runtimes, result.failed) == ((), ())


def test_where_there_is_one_thread_it_is_measured_once(data: DataConfig, trained: Trained) -> None:
    with torch_threads(1):
        result = benchmark((), data, trained.run, runtimes=[Runtime.torch])
    assert [[speed.threads for speed in row.speeds] for row in result.runtimes] == [[1], [1]]


def test_a_compiler_that_fails_is_one_line_and_the_others_are_measured(
    kd: CommandLine, data: DataConfig, trained: Trained, no_compiler: None
) -> None:
    where = ("--data-dir", data.data_dir, trained.teacher.checkpoint)
    code, out, err = kd("benchmark", *where, "--runtimes", "torch,torch-compile", "--json")
    assert code == 1
    (line,) = err.splitlines()
    assert line.startswith("kd: teacher mlp-16 in torch-compile: torch.compile fails (")
    assert "No working C++ compiler" in line
    assert line.endswith(": leave torch-compile out, or install what it needs, such as a C++ compiler")
    result = json.loads(out)
    assert [row["runtime"] for row in result["runtimes"]] == ["torch"]
    assert [each["run"] for each in result["failed"]] == ["teacher mlp-16 in torch-compile"]


def test_where_nothing_runs_the_cost_of_the_networks_is_shown(
    kd: CommandLine, data: DataConfig, trained: Trained, no_compiler: None
) -> None:
    where = ("--data-dir", data.data_dir, trained.teacher.checkpoint)
    code, out, err = kd("benchmark", *where, "--runtimes", "torch-compile")
    assert code == 1
    assert "Cost on digits" in out
    assert err.count("\n") == 1


def test_what_the_compiler_makes_predicts_the_same(data: DataConfig, trained: Trained) -> None:
    result = benchmark((), data, trained.run, runtimes=[Runtime.torch_compile])
    assert [row.accuracy for row in result.runtimes] == [trained.teacher.accuracy, trained.student.accuracy]


@pytest.mark.parametrize(
    ("config", "runtime"),
    [
        (ExportConfig(), "onnx"),
        (ExportConfig(int8=True, max_drop=0.1), "onnx-int8"),
        (ExportConfig(half=True), "onnx-float16"),
    ],
)
def test_exported_files_are_measured_in_what_they_were_exported_for(
    data: DataConfig, trained: Trained, tmp_path: Path, config: ExportConfig, runtime: str
) -> None:
    checkpoint, file = Path(trained.teacher.checkpoint), tmp_path / "exported.onnx"
    exported = export(checkpoint, replace(config, output=file), data, trained.run)
    result = benchmark([checkpoint, file], data, trained.run, runtimes=[Runtime.torch])
    first, second = result.models
    assert (second.checkpoint, second.size_bytes) == (str(file), file.stat().st_size)
    assert (second.parameters, second.macs) == (first.parameters, first.macs)
    assert second.accuracy == exported.accuracy
    rows = [(row.checkpoint, row.runtime, row.accuracy) for row in result.runtimes]
    assert rows == [(str(checkpoint), "torch", first.accuracy), (str(file), runtime, exported.accuracy)]


def test_networks_that_count_classes_otherwise_are_as_correct_in_each_runtime(
    data: DataConfig, trained: Trained, tmp_path: Path
) -> None:
    checkpoint = load_checkpoint(Path(trained.teacher.checkpoint), torch.device("cpu"))
    backwards = list(range(9, -1, -1))
    with torch.no_grad():
        for parameter in checkpoint.classifier.network.get_submodule("fc2").parameters():
            parameter.copy_(parameter[backwards].clone())
    info = replace(checkpoint.metadata.data, classes=checkpoint.metadata.data.classes[::-1])
    path = tmp_path / "backwards.safetensors"
    save_checkpoint(path, checkpoint.classifier.network, replace(checkpoint.metadata, data=info))
    result = benchmark([path], data, trained.run, runtimes=[Runtime.torch, Runtime.onnx])
    assert [row.accuracy for row in result.runtimes] == [trained.teacher.accuracy] * 2


def test_a_missing_extra_is_said_before_anything_is_measured(
    data: DataConfig, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(KdError, match=r"pip install 'kd-cli\[export\]'"):
        benchmark((), data, trained.run, runtimes=[Runtime.torch, Runtime.onnx])
    assert len(benchmark((), data, trained.run, runtimes=[Runtime.torch]).runtimes) == 2


def test_runtimes_are_compared_on_the_cpu(data: DataConfig, trained: Trained) -> None:
    with pytest.raises(ConfigError, match="--device cuda: runtimes are compared on the CPU"):
        benchmark((), data, replace(trained.run, device=DeviceName.cuda), runtimes=[Runtime.torch])


def test_an_unknown_runtime_is_refused_with_those_that_there_are(kd: CommandLine) -> None:
    code, _, err = kd("benchmark", "--runtimes", "torch,onxn")
    assert code == 2
    assert "unknown runtime 'onxn' (did you mean onnx?): use torch, torch-compile, onnx, onnx-int8" in err
