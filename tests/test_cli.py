"""The program as a user runs it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image

from kd_cli import data, settings
from kd_cli.data import Dataset
from tests.conftest import CommandLine, hear_interrupts

DIGITS = ("--dataset", "digits", "--epochs", "1")


@pytest.fixture
def picture(tmp_path: Path, mnist: Dataset) -> Path:
    """The first test picture of MNIST, a 7, in black on white and ten times as large."""
    pixels = 255 - np.kron(mnist.test.images[0].numpy(), np.ones((10, 10), np.uint8))
    path = tmp_path / "seven.png"
    Image.fromarray(pixels).save(path)
    return path


def read_json(answer: tuple[int, str, str]) -> Any:
    code, stdout, stderr = answer
    assert code == 0, stderr
    return json.loads(stdout)


def test_help_and_usage_errors_import_nothing_slow() -> None:
    program = (
        "import sys; from kd_cli.cli import main; main(['--help']); main(['distill', '--student', 'nonsense']);"
        "sys.exit(bool({'torch', 'numpy', 'PIL', 'rich.table', 'streamlit'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, check=False).returncode == 0


def test_training_does_not_import_torchs_compiler(tmp_path: Path) -> None:
    # That import takes a second, and comes with torch's optimiser classes and its counter of operations; sympy comes
    # with `Tensor.backward(gradient)`.
    program = (
        "import sys; from kd_cli.cli import main;"
        "assert main(['distill', '--dataset', 'digits', '--epochs', '1']) == 0;"
        "sys.exit(bool({'torch._dynamo', 'sympy'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=False).returncode == 0


def test_python_m_kd_cli_is_the_same_program() -> None:
    run = subprocess.run([sys.executable, "-m", "kd_cli", "--version"], capture_output=True, text=True, check=True)
    assert run.stdout.startswith("kd ")


def test_no_arguments_show_the_help(kd: CommandLine) -> None:
    assert kd() == kd("--help")


def test_every_data_set_of_the_command_line_is_one_that_can_be_loaded() -> None:
    assert set(settings.DatasetName) == {settings.DatasetName.auto, *data.CLASSES}


@pytest.mark.parametrize("command", ["train-teacher", "distill"])
def test_training_reports_the_documented_keys(kd: CommandLine, command: str) -> None:
    result = read_json(kd(command, *DIGITS, "--json"))
    assert result.keys() >= {
        *("dataset", "device", "seed", "architecture", "method", "epochs", "checkpoint"),
        *("accuracy", "error_count", "train_seconds", "history"),
    }
    assert [epoch.keys() >= {"epoch", "loss", "accuracy", "seconds"} for epoch in result["history"]] == [True]


def test_evaluate_reports_the_documented_keys(kd: CommandLine) -> None:
    result = read_json(kd("evaluate", "--dataset", "digits", "--json"))
    assert result.keys() >= {"dataset", "device", "models"}
    for model in result["models"]:
        assert model.keys() >= {
            *("role", "checkpoint", "architecture", "parameters", "accuracy", "error_count", "nll", "ece"),
            *("agreement", "per_class_accuracy", "confusion"),
        }


def test_benchmark_reports_the_documented_keys(kd: CommandLine) -> None:
    result = read_json(kd("benchmark", "--dataset", "digits", "--json"))
    assert result.keys() >= {"dataset", "device", "threads", "models", "student_speedup"}
    for model in result["models"]:
        assert model.keys() >= {
            *("role", "checkpoint", "architecture", "parameters", "macs", "size_bytes", "accuracy"),
            *("latency_ms", "throughput_per_s", "test_set_seconds"),
        }
        assert 0 < model["latency_ms"]["p50"] <= model["latency_ms"]["p95"]


def test_predict_reports_the_documented_keys(kd: CommandLine, picture: Path) -> None:
    (row,) = read_json(kd("predict", picture, "--json"))
    assert row.keys() >= {"file", "error", "teacher", "student", "agree"}
    for role in ("teacher", "student"):
        assert row[role].keys() >= {"class", "confidence", "probabilities"}


def test_predict_reads_a_picture_with_the_weights_that_ship(kd: CommandLine, picture: Path) -> None:
    (row,) = read_json(kd("predict", picture, "--json"))
    assert (row["teacher"]["class"], row["student"]["class"], row["agree"]) == (7, 7, True)


def test_distilling_uses_the_teacher_trained_here(kd: CommandLine) -> None:
    teacher = read_json(kd("train-teacher", *DIGITS, "--arch", "cnn-4", "--json"))
    student = read_json(kd("distill", *DIGITS, "--json"))
    assert student["teachers"] == [teacher["checkpoint"]]


def test_training_twice_with_one_seed_writes_the_same_file(kd: CommandLine) -> None:
    for name in ("first", "second"):
        assert kd("train-teacher", *DIGITS, "--output", f"{name}.safetensors")[0] == 0
    assert Path("first.safetensors").read_bytes() == Path("second.safetensors").read_bytes()


def test_distilling_with_alpha_0_needs_no_teacher_and_is_called_from_labels(kd: CommandLine) -> None:
    result = read_json(kd("distill", "--alpha", "0", "--dataset", "digits", "--epochs", "1", "--json"))
    assert result["method"] == "labels"


def test_augmented_distillation_asks_the_teacher_about_the_moved_pictures(kd: CommandLine) -> None:
    assert read_json(kd("distill", *DIGITS, "--augment", "--json"))["options"]["augment"] is True


def test_reported_accuracy_is_what_evaluate_measures_on_the_saved_network(kd: CommandLine) -> None:
    trained = read_json(kd("train-teacher", *DIGITS, "--json"))
    measured = read_json(kd("evaluate", trained["checkpoint"], "--json"))
    assert measured["models"][0]["accuracy"] == trained["accuracy"]


def test_evaluate_follows_the_data_set_of_the_checkpoint_that_it_is_given(kd: CommandLine) -> None:
    kd("train-teacher", *DIGITS, "--output", "mine.safetensors")
    assert read_json(kd("evaluate", "mine.safetensors", "--json"))["dataset"] == "digits"


@pytest.mark.parametrize("command", ["evaluate", "benchmark"])
def test_tables_name_data_set_device_and_checkpoints(kd: CommandLine, command: str) -> None:
    kd("train-teacher", *DIGITS)
    code, stdout, _ = kd(command, "--dataset", "digits")
    assert code == 0
    assert "digits" in stdout
    assert "cpu (" in stdout
    assert "models/digits/teacher.safetensors" in stdout
    assert "student.safetensors (ships with kd)" in stdout


def test_training_table_names_data_set_device_and_checkpoint(kd: CommandLine) -> None:
    _, stdout, _ = kd("train-teacher", *DIGITS)
    assert "digits" in stdout
    assert "cpu (" in stdout
    assert "models/digits/teacher.safetensors" in stdout


def test_no_progress_bar_where_stderr_is_no_terminal(kd: CommandLine) -> None:
    assert kd("train-teacher", *DIGITS)[2] == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["distill", "--nonsense"],
        ["distill", "--student", "resnet-50"],
        ["train-teacher", "--arch", "cnn-0"],
        ["train-teacher", "--epochs", "0"],
        ["train-teacher", "--epochs", "many"],
        ["train-teacher", "--batch-size", "-1"],
        ["train-teacher", "--lr", "0"],
        ["train-teacher", "--lr", "nan"],
        ["train-teacher", "--seed", "-1"],
        ["train-teacher", "--dataset", "imagenet"],
        ["distill", "--temperature", "0"],
        ["distill", "--temperature", "inf"],
        ["distill", "--alpha", "1.5"],
        ["distill", "--alpha", "nan"],
        ["predict"],
    ],
    ids=" ".join,
)
def test_usage_error_is_one_line_and_exit_code_2(kd: CommandLine, arguments: list[str]) -> None:
    code, stdout, stderr = kd(*arguments)
    assert (code, stdout, stderr.count("\n")) == (2, "", 1)
    assert "--help" in stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["evaluate", "missing.safetensors"],
        ["evaluate", "folder"],
        ["evaluate", "junk"],
        ["evaluate", "digits.safetensors", "--dataset", "mnist"],
        ["distill", "--teacher", "missing.safetensors"],
        ["distill", "--teacher", "digits.safetensors", "--dataset", "mnist"],
        ["train-teacher", *DIGITS, "--output", "folder"],
        ["train-teacher", *DIGITS, "--models-dir", "junk"],
        ["train-teacher", *DIGITS, "--device", "cuda"],
        ["predict", "missing.png"],
        ["predict", "folder"],
        ["predict", "junk"],
    ],
    ids=" ".join,
)
def test_expected_failure_is_one_line_and_exit_code_1(
    kd: CommandLine, archives: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    kd("train-teacher", *DIGITS, "--arch", "cnn-2", "--output", "digits.safetensors")
    Path("folder").mkdir()
    Path("junk").write_bytes(b"junk" * 100)
    code, _, stderr = kd(*arguments)
    assert (code, stderr.count("\n")) == (1, 1)
    assert stderr.startswith("kd: ")


def test_failed_training_leaves_the_checkpoint_that_was_there(kd: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    kd("train-teacher", *DIGITS)
    path = Path("models/digits/teacher.safetensors")
    before = path.read_bytes()
    monkeypatch.setattr("os.replace", Mock(side_effect=OSError(28, "No space left on device")))
    assert kd("train-teacher", *DIGITS, "--seed", "1")[0] == 1
    assert path.read_bytes() == before


@pytest.mark.skipif(os.name != "posix", reason="sends a Unix signal")
def test_interrupt_is_one_line_and_exit_code_130(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "kd_cli", "train-teacher", "--dataset", "digits", "--epochs", "1000000"]
    environment = os.environ | {"KD_DATA_DIR": str(tmp_path), "KD_MODELS_DIR": str(tmp_path)}
    with subprocess.Popen(
        command, env=environment, stderr=subprocess.PIPE, text=True, preexec_fn=hear_interrupts
    ) as run:
        while not (tmp_path / "digits" / "prepared.safetensors").exists():
            time.sleep(0.1)
        time.sleep(1)
        run.send_signal(signal.SIGINT)
        try:
            _, stderr = run.communicate(timeout=60)
        finally:
            run.kill()
    assert (run.returncode, stderr.count("\n")) == (130, 1)


def test_offline_first_run_works_with_the_bundled_digits(kd: CommandLine, no_network: None, tmp_path: Path) -> None:
    code, stdout, stderr = kd("train-teacher", "--epochs", "1", "--data-dir", tmp_path / "empty")
    assert code == 0
    assert "digits" in stdout
    assert "not comparable" in stderr
