"""The program as a user runs it."""

import ast
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from PIL import Image

import kd_cli
from kd_cli.cli import app, main
from kd_cli.commands import runs
from kd_cli.config import Role
from kd_cli.evaluation.measures import Quality
from kd_cli.evaluation.quality import measure_quality
from kd_cli.networks.checkpoint import find_checkpoint, load_checkpoint
from tests.conftest import ROOT, CommandLine, hear_interrupts, make_dataset, read_json
from tests.sources import register

DIGITS = ("--dataset", "digits", "--epochs", "1", "--device", "cpu")
COMMANDS = (
    *("train-teacher", "distill", "compare", "tune", "reproduce"),
    *("evaluate", "benchmark", "export", "predict", "app"),
)


def run_program(program: str, folder: Path) -> int:
    return subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, check=False).returncode


class TestStarting:
    def test_help_and_usage_errors_import_nothing_slow(self, tmp_path: Path) -> None:
        program = (
            "import sys; from kd_cli.cli import main; main(['--help']); main(['distill', '--student', 'nonsense']);"
            "main(['compare', '--methods', 'nonsense']); main(['tune', '--trials', '0']);"
            "slow = {'torch', 'numpy', 'scipy', 'PIL', 'rich.table', 'streamlit', 'optuna', 'tensorboard'};"
            "sys.exit(bool(slow & sys.modules.keys()))"
        )
        assert run_program(program, tmp_path) == 0

    def test_training_does_not_import_torchs_compiler(self, tmp_path: Path) -> None:
        # That import takes a second, and comes with torch's optimiser classes and its counter of operations; sympy
        # comes with `Tensor.backward(gradient)`.
        program = (
            "import sys; from kd_cli.cli import main;"
            "assert main(['distill', '--dataset', 'digits', '--epochs', '1']) == 0;"
            "sys.exit(bool({'torch._dynamo', 'sympy'} & sys.modules.keys()))"
        )
        assert run_program(program, tmp_path) == 0

    def test_python_m_kd_cli_is_the_same_program(self, tmp_path: Path) -> None:
        command = [sys.executable, "-m", "kd_cli", "--version"]
        run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        assert run.stdout == f"kd {kd_cli.__version__}\n"

    def test_no_arguments_show_the_help(self, kd: CommandLine) -> None:
        assert kd() == kd("--help")

    def test_the_help_names_every_command(self, kd: CommandLine) -> None:
        code, stdout, _ = kd("--help")
        assert code == 0
        assert {command for command in COMMANDS if re.search(rf"^ +{command} ", stdout, re.MULTILINE)} == set(COMMANDS)
        assert len(app.registered_commands) == len(COMMANDS)

    @pytest.mark.parametrize("group", [(), ("list",)], ids=" ".join)
    def test_the_help_has_a_short_form_and_cuts_no_summary_off(
        self, kd: CommandLine, monkeypatch: pytest.MonkeyPatch, group: tuple[str, ...]
    ) -> None:
        monkeypatch.setenv("COLUMNS", "80")
        code, stdout, _ = kd(*group, "-h")
        assert (code, stdout) == kd(*group, "--help")[:2]
        summaries = stdout.split("Commands:\n")[1].splitlines()
        assert len(summaries) >= 5
        assert all(summary.endswith(".") and not summary.endswith("...") for summary in summaries)

    @pytest.mark.parametrize(("typed", "found"), [("kd dis", "distill"), ("kd distill --temp", "--temperature")])
    def test_a_shell_can_complete_names(self, tmp_path: Path, typed: str, found: str) -> None:
        told = {"_KD_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" "))}
        command = [sys.executable, "-c", "from kd_cli.cli import run; run()"]
        run = subprocess.run(command, cwd=tmp_path, env=os.environ | told, capture_output=True, text=True, check=True)
        assert run.stdout.split() == [found]

    def test_options_in_short_are_those_in_full(self, kd: CommandLine) -> None:
        short = ("-d", "digits", "-e", "1", "-s", "7", "-o", "short.safetensors")
        full = ("--dataset", "digits", "--epochs", "1", "--seed", "7", "--output", "full.safetensors")
        for options in (short, full):
            assert kd("train-teacher", "--arch", "mlp-8", *options)[0] == 0
        assert Path("short.safetensors").read_bytes() == Path("full.safetensors").read_bytes()
        assert read_json(kd("evaluate", "short.safetensors", "--json"))["dataset"] == "digits"

    @pytest.mark.parametrize("command", COMMANDS)
    def test_every_command_has_a_help(self, kd: CommandLine, command: str) -> None:
        code, stdout, stderr = kd(command, "--help")
        assert (code, stderr) == (0, "")
        assert stdout.startswith(f"Usage: kd {command}")

    def test_an_offline_first_run_works_with_the_bundled_digits(
        self, kd: CommandLine, no_network: None, tmp_path: Path
    ) -> None:
        code, stdout, stderr = kd("train-teacher", "--epochs", "1", "--data-dir", tmp_path / "empty")
        assert code == 0
        assert "digits" in stdout
        assert "not comparable" in stderr


def check_training(result: dict[str, Any], epochs: int) -> None:
    """The documented keys of training, by what their values mean."""
    assert (result["dataset"], result["device"], result["seed"], result["epochs"]) == ("digits", "cpu", 7, epochs)
    assert Path(result["checkpoint"]).is_file()
    assert {type(each["error_count"]) for each in [result, *result["history"]]} == {int}
    assert result["accuracy"] == pytest.approx(1 - result["error_count"] / result["test_images"])
    assert [epoch["epoch"] for epoch in result["history"]] == list(range(1, epochs + 1))
    for epoch in result["history"]:
        assert epoch["loss"] > 0
        assert 0 <= epoch["accuracy"] <= 1
        assert epoch["seconds"] > 0
    assert result["accuracy"] == result["history"][-1]["accuracy"]
    assert result["train_seconds"] == pytest.approx(sum(epoch["seconds"] for epoch in result["history"]))


class TestJson:
    """What other programs rely on: keys, and that their values are what the keys say."""

    def test_of_a_teacher(self, kd: CommandLine) -> None:
        result = read_json(kd("train-teacher", *DIGITS, "--epochs", "3", "--seed", "7", "--arch", "mlp-16", "--json"))
        check_training(result, epochs=3)
        assert (result["architecture"], result["method"]) == ("mlp-16", "labels")

    def test_of_a_student(self, kd: CommandLine) -> None:
        options = ("--seed", "7", "--student", "mlp-8", "--temperature", "2", "--json")
        result = read_json(kd("distill", *DIGITS, "--epochs", "2", *options))
        check_training(result, epochs=2)
        assert (result["architecture"], result["method"]) == ("mlp-8", "kd")
        assert result["method_options"] == {"temperature": 2, "alpha": 0.9}

    def test_of_an_ensemble(self, kd: CommandLine) -> None:
        result = read_json(kd("train-teacher", *DIGITS, "--seed", "7", "--arch", "mlp-8", "--ensemble", "2", "--json"))
        assert (result["ensemble"], len(result["members"])) == (2, 2)
        assert {type(each["error_count"]) for each in [result, *result["history"], *result["members"]]} == {int}
        assert result["accuracy"] == pytest.approx(1 - result["error_count"] / result["test_images"])
        assert len(result["history"]) == result["epochs"] == 1
        for member in result["members"]:
            assert member["accuracy"] == pytest.approx(1 - member["error_count"] / member["test_images"])
            assert Path(member["checkpoint"]).is_file()

    def test_of_an_evaluation(self, kd: CommandLine) -> None:
        result = read_json(kd("evaluate", "--dataset", "digits", "--device", "cpu", "--json"))
        assert (result["dataset"], result["device"]) == ("digits", "cpu")
        assert [model["role"] for model in result["models"]] == ["teacher", "student"]
        for model in result["models"]:
            assert Path(model["checkpoint"]).is_file()
            assert (model["architecture"], model["parameters"]) in (("cnn-32", 67_786), ("mlp-128", 101_770))
            total = sum(map(sum, model["confusion"]))
            assert total == result["test_images"] == 500
            assert type(model["error_count"]) is int
            assert model["error_count"] == total - sum(model["confusion"][i][i] for i in range(10))
            assert model["accuracy"] == pytest.approx(1 - model["error_count"] / total)
            for i, row in enumerate(model["confusion"]):
                assert model["per_class_accuracy"][i] == pytest.approx(row[i] / sum(row))
            assert 0 < model["nll"] < 1
            assert 0 <= model["ece"] <= 1
        assert result["models"][0]["agreement"] == 1
        assert 0.9 < result["models"][1]["agreement"] < 1

    @pytest.mark.usefixtures("short_measurements")
    def test_of_a_benchmark(self, kd: CommandLine) -> None:
        result = read_json(kd("benchmark", "--dataset", "digits", "--device", "cpu", "--json"))
        assert (result["dataset"], result["device"], result["threads"]) == ("digits", "cpu", torch.get_num_threads())
        teacher, student = result["models"]
        for model, macs in ((teacher, 386_816), (student, 101_632)):
            assert model["macs"] == macs
            assert model["size_bytes"] == Path(model["checkpoint"]).stat().st_size
            assert 0.9 < model["accuracy"] < 1
            assert 0 < model["latency_ms"]["p50"] <= model["latency_ms"]["p95"]
            assert model["throughput_per_s"] > 0
            assert model["test_set_seconds"] > 0
        assert (teacher["architecture"], teacher["parameters"]) == ("cnn-32", 67_786)
        assert result["student_speedup"] == pytest.approx(teacher["latency_ms"]["p50"] / student["latency_ms"]["p50"])

    def test_of_a_comparison(self, kd: CommandLine) -> None:
        options = ("--students", "mlp-8", "--seeds", "3", "--jobs", "1", "--results-dir", "results", "--json")
        result = read_json(kd("compare", *DIGITS, "--methods", "kd,dist", *options))
        assert (result["dataset"], result["seeds"], result["failed"]) == ("digits", [0, 1, 2], [])
        assert [cell["method"] for cell in result["cells"]] == ["labels", "kd", "dist"]
        baseline = [run["accuracy"] for run in result["cells"][0]["runs"]]
        for cell in result["cells"]:
            accuracies = [run["accuracy"] for run in cell["runs"]]
            assert {type(run["error_count"]) for run in cell["runs"]} == {int}
            assert cell["student"] == "mlp-8"
            assert cell["mean"]["accuracy"] == pytest.approx(np.mean(accuracies))
            assert cell["std"]["accuracy"] == pytest.approx(np.std(accuracies, ddof=1))
            if cell["method"] == "labels":
                assert (cell["options"], cell["difference"]) == ({}, None)
                continue
            assert cell["options"]["temperature"] == 4
            difference = cell["difference"]
            low, high = difference["interval"]
            assert low < difference["mean"] < high
            assert difference["mean"] == pytest.approx(np.mean(np.subtract(accuracies, baseline)))
            assert difference["p_value"] <= difference["adjusted_p_value"] <= 1
            assert difference["verdict"] in ("better", "worse", "no difference shown")

    def test_of_predictions(self, kd: CommandLine, tmp_path: Path) -> None:
        Image.fromarray(_draw_one()).save(tmp_path / "1.png")
        result = read_json(kd("predict", "1.png", "--json"))
        (image,) = result["images"]
        assert (image["file"], image["error"]) == ("1.png", None)
        for role in ("teacher", "student"):
            prediction = image[role]
            assert prediction["class"] == int(np.argmax(prediction["probabilities"])) == 1
            assert prediction["confidence"] == max(prediction["probabilities"])
            assert sum(prediction["probabilities"]) == pytest.approx(1)
        assert image["agree"] is True

    def test_is_all_that_stdout_holds(self, kd: CommandLine) -> None:
        code, stdout, stderr = kd("train-teacher", *DIGITS, "--arch", "mlp-4", "--json")
        assert (code, stderr) == (0, "")
        assert stdout.startswith("{")
        assert json.loads(stdout).keys() > {"dataset"}


def _draw_one() -> Any:
    """A stroke of black ink, as somebody writes a 1."""
    page = np.full((200, 200), 255, np.uint8)
    page[40:160, 95:107] = 0
    return page


class TestTables:
    @pytest.mark.usefixtures("short_measurements")
    @pytest.mark.parametrize("command", ["evaluate", "benchmark"])
    def test_name_data_set_device_and_checkpoints(self, kd: CommandLine, command: str) -> None:
        kd("train-teacher", *DIGITS, "--arch", "mlp-4")
        code, stdout, _ = kd(command, "--dataset", "digits", "--device", "cpu")
        assert code == 0
        assert "digits" in stdout
        assert "cpu (" in stdout
        assert "runs/models/digits/teacher.safetensors\n" in stdout
        assert "student.safetensors (ships with kd)" in stdout

    @pytest.mark.parametrize("command", ["train-teacher", "distill"])
    def test_of_training_name_data_set_device_and_checkpoint(self, kd: CommandLine, command: str) -> None:
        code, stdout, stderr = kd(command, *DIGITS)
        assert (code, stderr) == (0, "")  # no progress bar where stderr is no terminal
        assert "digits" in stdout
        assert "cpu (" in stdout
        assert f"runs/models/digits/{command.replace('train-', '').replace('distill', 'student')}.safetensors" in stdout

    @pytest.mark.parametrize(("arguments", "shown"), [([], 0), (["--confusion"], 2)])
    def test_of_confusion_are_shown_on_request(self, kd: CommandLine, arguments: list[str], shown: int) -> None:
        _, stdout, _ = kd("evaluate", "--dataset", "digits", *arguments)
        assert stdout.count(": confusion") == shown


class TestUsageErrors:
    @pytest.mark.parametrize(
        "arguments",
        [
            ["nonsense"],
            ["distill", "--nonsense"],
            ["distill", "--student", "resnet-51"],
            ["distill", "--method", "nonsense"],
            ["distill", "--method", "rkd", "--temperature", "4"],
            ["distill", "--temperature", "0"],
            ["distill", "--temperature", "inf"],
            ["distill", "--alpha", "1.5"],
            ["distill", "--alpha", "nan"],
            ["distill", "--teacher", "a", "--ensemble", "2"],
            ["distill", "--dataset", "digits", "--train-fraction", "0.9999"],
            ["distill", "--transfer", "some"],
            ["train-teacher", "--arch", "cnn-0"],
            ["train-teacher", "--epochs", "0"],
            ["train-teacher", "--epochs", "many"],
            ["train-teacher", "--batch-size", "-1"],
            ["train-teacher", "--lr", "0"],
            ["train-teacher", "--lr", "nan"],
            ["train-teacher", "--seed", "-1"],
            ["train-teacher", "--seed", "4294967296"],
            ["train-teacher", "--seed", "4294967295", "--ensemble", "2"],
            ["train-teacher", "--dataset", "imagenet"],
            ["train-teacher", "--device", "tpu"],
            ["compare", "--methods", "nonsense"],
            ["compare", "--methods", ""],
            ["compare", "--methods", "labels"],
            ["compare", "--methods", "at"],
            ["compare", "--methods", "rkd", "--temperatures", "4"],
            ["compare", "--students", ""],
            ["compare", "--students", "cnn"],
            ["compare", "--temperatures", "4,0"],
            ["compare", "--temperatures", "warm"],
            ["compare", "--alphas", "2"],
            ["compare", "--seeds", "0"],
            ["compare", "--dataset", "digits", "--seed", "4294967295"],
            ["tune", "--methods", "nonsense"],
            ["tune", "--methods", "labels"],
            ["tune", "--methods", "at"],
            ["tune", "--trials", "0"],
            ["reproduce"],
            ["reproduce", "hinton-2014"],
            ["reproduce", "hinton-2015", "--row", "nonsense"],
            ["reproduce", "hinton-2015", "--seeds", "0"],
            ["distill", "--omit-class", "3", "--only-classes", "7"],
            ["distill", "--dataset", "digits", "--omit-class", "ten"],
            ["evaluate", "--class-bias", "3"],
            ["evaluate", "--dataset", "digits", "--fit-class-bias", "3"],
            ["tune", "--patience", "2"],
            ["tune", "--validation-fraction", "0"],
            ["tune", "--dataset", "digits", "--seed", "4294967295"],
            ["evaluate", "--dataset", "imagenet"],
            ["predict"],
            ["predict", "x.png", "--top", "0"],
            ["predict", "x.png", "--dataset", "imagenet"],
            ["app", "--port", "0"],
        ],
        ids=" ".join,
    )
    def test_are_one_line_and_exit_code_2(self, kd: CommandLine, arguments: list[str]) -> None:
        code, stdout, stderr = kd(*arguments)
        assert (code, stdout, stderr.count("\n")) == (2, "", 1), stderr
        assert stderr.startswith("kd: ")
        assert stderr.endswith("--help\n")

    def test_name_a_similar_method(self, kd: CommandLine) -> None:
        assert "did you mean dkd?" in kd("distill", "--method", "dkdd")[2]


class TestExpectedFailures:
    @pytest.fixture
    def files(self, kd: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
        """A teacher of digits, another data set, a folder, and a file of junk."""
        register(monkeypatch, "three", make_dataset(classes=3))
        monkeypatch.setattr("torch.cuda.is_available", lambda: False)
        assert kd("train-teacher", *DIGITS, "--arch", "mlp-2", "--output", "digits.safetensors")[0] == 0
        Path("folder").mkdir()
        Path("junk").write_bytes(b"junk" * 100)

    @pytest.mark.parametrize(
        "arguments",
        [
            ["evaluate", "missing.safetensors"],
            ["evaluate", "folder"],
            ["evaluate", "junk"],
            ["evaluate", "digits.safetensors", "--dataset", "three"],
            ["benchmark", "digits.safetensors", "--dataset", "three"],
            ["distill", "--teacher", "missing.safetensors"],
            ["distill", "--teacher", "digits.safetensors", "--dataset", "three"],
            ["distill", "--dataset", "three", "--data-dir", "data"],
            ["distill", *DIGITS, "--method", "at", "--student", "mlp-8"],
            ["distill", *DIGITS, "--ensemble", "2"],
            ["train-teacher", *DIGITS, "--output", "folder"],
            ["train-teacher", *DIGITS, "--models-dir", "junk"],
            ["train-teacher", *DIGITS, "--device", "cuda"],
            ["compare", *DIGITS, "--ensemble", "2"],
            ["compare", *DIGITS, "--results-dir", "junk"],
            ["compare", *DIGITS, "--plot", "plot.xyz"],
            ["compare", *DIGITS, "--seeds", "1", "--jobs", "1", "--lr", "1e30", "--results-dir", "results"],
            ["compare", *DIGITS, "--from-study", "missing.json"],
            ["compare", *DIGITS, "--from-study", "junk"],
            ["tune", *DIGITS, "--results-dir", "junk"],
            ["tune", *DIGITS, "--plot", "plot.xyz"],
            ["predict", "missing.png"],
            ["predict", "folder"],
            ["predict", "junk"],
        ],
        ids=" ".join,
    )
    @pytest.mark.usefixtures("files")
    def test_are_one_line_and_exit_code_1(self, kd: CommandLine, arguments: list[str]) -> None:
        code, _, stderr = kd(*arguments)
        assert (code, stderr.count("\n")) == (1, 1), stderr
        assert stderr.startswith("kd: ")

    @pytest.mark.parametrize("path", [".", "", "/", "folder"])
    @pytest.mark.parametrize(
        "arguments",
        [
            ["train-teacher", *DIGITS, "--output"],
            ["train-teacher", *DIGITS, "--ensemble", "2", "--output"],
            ["train-teacher", *DIGITS, "--plot"],
            ["distill", *DIGITS, "--output"],
            ["distill", *DIGITS, "--plot"],
            ["compare", *DIGITS, "--csv"],
            ["compare", *DIGITS, "--plot"],
            ["tune", *DIGITS, "--csv"],
            ["tune", *DIGITS, "--plot"],
            ["evaluate", "--dataset", "digits", "--plot"],
            ["benchmark", "--dataset", "digits", "--plot"],
        ],
        ids=lambda arguments: f"{arguments[0]} {arguments[-1]}",
    )
    def test_where_an_output_names_no_file_come_before_any_work(
        self, kd: CommandLine, arguments: list[str], path: str
    ) -> None:
        Path("folder").mkdir(exist_ok=True)
        code, stdout, stderr = kd(*arguments, path)
        assert (code, stdout, stderr.count("\n")) == (1, "", 1), stderr
        assert not Path("runs").exists()

    def test_of_a_network_too_large_for_any_machine_say_what_it_needs(
        self, kd: CommandLine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sizes = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 2**22}  # 17 GB
        sysconf = os.sysconf
        monkeypatch.setattr("os.sysconf", lambda name: sizes.get(name) or sysconf(name))
        code, _, stderr = kd("train-teacher", *DIGITS, "--arch", "mlp-65536-65536")
        assert (code, stderr.count("\n")) == (1, 1)
        assert "mlp-65536-65536 (4,347,133,962 parameters) needs at least 70 GB" in stderr
        assert "this machine has 17 GB: use a smaller architecture" in stderr

    @pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory"), None])
    def test_out_of_memory_are_one_line(
        self, kd: CommandLine, monkeypatch: pytest.MonkeyPatch, error: Exception | None
    ) -> None:
        def too_much(*arguments: object) -> None:
            if error is None:
                torch.empty(2**60, dtype=torch.uint8)  # torch's own words for it
            else:
                raise error

        monkeypatch.setattr("kd_cli.commands.train_teacher.train_teacher", too_much)
        code, stdout, stderr = kd("train-teacher", *DIGITS)
        assert (code, stdout, stderr.count("\n")) == (1, "", 1)
        assert "out of memory: use a smaller architecture or --batch-size" in stderr

    def test_do_not_hide_a_bug(self, kd: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("kd_cli.commands.evaluate.evaluate", Mock(side_effect=RuntimeError("a bug")))
        with pytest.raises(RuntimeError, match="a bug"):
            kd("evaluate", "--dataset", "digits")

    def test_leave_the_checkpoint_that_was_there(self, kd: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
        kd("train-teacher", *DIGITS, "--arch", "mlp-4")
        path = Path("runs/models/digits/teacher.safetensors")
        before = path.read_bytes()
        monkeypatch.setattr("os.replace", Mock(side_effect=OSError(28, "No space left on device")))
        code, _, stderr = kd("train-teacher", *DIGITS, "--arch", "mlp-4", "--seed", "1")
        assert (code, stderr.count("\n")) == (1, 1)
        assert path.read_bytes() == before


class TestCauses:
    def test_are_shown_under_an_expected_failure_only_on_request(
        self, kd: CommandLine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("KD_DEBUG", raising=False)
        _, _, line = kd("evaluate", "missing.safetensors")
        monkeypatch.setenv("KD_DEBUG", "1")
        code, stdout, stderr = kd("evaluate", "missing.safetensors")
        assert (code, stdout, line.count("\n")) == (1, "", 1)
        assert stderr.startswith(line)
        assert "FileNotFoundError" in stderr
        assert "The above exception was the direct cause" in stderr

    def test_of_a_usage_error_are_shown_too(self, kd: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("KD_DEBUG", "1")
        code, _, stderr = kd("compare", "--temperatures", "warm")
        assert code == 2
        assert "ValueError: could not convert string to float: 'warm'" in stderr

    @pytest.mark.parametrize(
        "room", sorted((ROOT / "kd_cli").rglob("*.py")), ids=lambda room: str(room.relative_to(ROOT))
    )
    def test_are_never_cut_off(self, room: Path) -> None:
        hidden = [
            node.lineno
            for node in ast.walk(ast.parse(room.read_text("utf-8")))
            if isinstance(node, ast.Raise) and isinstance(node.cause, ast.Constant) and node.cause.value is None
        ]
        assert hidden == []


class TestWhereFilesGo:
    def test_a_student_learns_from_the_teacher_trained_here(self, kd: CommandLine) -> None:
        teacher = read_json(kd("train-teacher", *DIGITS, "--arch", "cnn-4", "--json"))
        assert teacher["checkpoint"] == "runs/models/digits/teacher.safetensors"
        assert read_json(kd("distill", *DIGITS, "--json"))["teachers"] == [teacher["checkpoint"]]

    def test_the_environment_may_say_where_models_and_results_are(
        self, kd: CommandLine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("KD_MODELS_DIR", "mine")
        monkeypatch.setenv("KD_RESULTS_DIR", "kept")
        assert kd("train-teacher", *DIGITS, "--arch", "mlp-4")[0] == 0
        assert kd("compare", *DIGITS, "--students", "mlp-4", "--seeds", "1", "--jobs", "1")[0] == 0
        assert sorted(path.name for path in Path().iterdir()) == ["kept", "mine"]
        assert Path("mine/digits/teacher.safetensors").is_file()
        assert len(list(Path("kept").rglob("*.json"))) == 2

    @pytest.mark.parametrize("name", ["x.pth", "x.safetensors", "x"])
    def test_an_output_of_any_name_can_be_evaluated(self, kd: CommandLine, name: str) -> None:
        trained = read_json(kd("train-teacher", *DIGITS, "--arch", "mlp-8", "--output", name, "--json"))
        measured = read_json(kd("evaluate", name, "--json"))
        assert (trained["checkpoint"], measured["dataset"]) == (name, "digits")
        assert measured["models"][0]["error_count"] == trained["error_count"]
        assert measured["models"][0]["accuracy"] == trained["accuracy"]

    @pytest.mark.slow
    def test_a_checkout_stays_as_git_has_it(self, tmp_path: Path) -> None:
        checkout = tmp_path / "checkout"
        shutil.copytree(ROOT / "kd_cli", checkout / "kd_cli", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(ROOT / "models", checkout / "models")
        before = {path: path.read_bytes() for path in checkout.rglob("*") if path.is_file()}
        options = ["--dataset", "digits", "--epochs", "1", "--data-dir", str(tmp_path / "data")]
        for command in ("train-teacher", "distill"):
            run = [sys.executable, "-B", "-m", "kd_cli", command, *options, "--json"]
            answer = subprocess.run(run, cwd=checkout, capture_output=True, text=True, check=True)
            assert json.loads(answer.stdout)["checkpoint"].startswith("runs/models/digits/")
        assert {path: path.read_bytes() for path in before} == before
        changed = {path.relative_to(checkout).parts[0] for path in checkout.rglob("*") if path.is_file()}
        assert changed == {"kd_cli", "models", "runs"}
        assert "/runs/" in (ROOT / ".gitignore").read_text().splitlines()

    def test_what_was_trained_here_wins_over_what_ships(self, kd: CommandLine) -> None:
        shipped = find_checkpoint(Path("runs/models"), "digits", Role.teacher)
        assert load_checkpoint(shipped, torch.device("cpu")).shipped
        kd("train-teacher", *DIGITS, "--arch", "mlp-4")
        models = read_json(kd("evaluate", "--dataset", "digits", "--json"))["models"]
        assert [(model["role"], model["shipped"]) for model in models] == [("teacher", False), ("student", True)]


SMALL = ("--students", "mlp-8", "--seeds", "2", "--jobs", "1", "--results-dir", "results")


class TestComparing:
    def test_writes_a_line_for_each_run_and_a_plot(self, kd: CommandLine) -> None:
        pytest.importorskip("matplotlib")
        code, stdout, _ = kd("compare", *DIGITS, *SMALL, "--csv", "runs.csv", "--plot", "plot.svg")
        assert code == 0
        assert len(Path("runs.csv").read_text().splitlines()) == 1 + 4
        assert Path("plot.svg").read_bytes().startswith(b"<?xml")
        for word in ("digits", "cpu (1 thread)", "teacher.safetensors", "labels", "kd"):
            assert word in stdout

    def test_a_csv_file_replaces_no_file_of_the_users_but_by_force(self, kd: CommandLine) -> None:
        Path("mine.csv").write_text("dataset,notes\n")
        code, stdout, stderr = kd("compare", *DIGITS, *SMALL, "--csv", "mine.csv")
        assert (code, stdout, stderr.count("\n")) == (1, "", 1)
        assert "mine.csv: it is a file that kd did not write" in stderr
        assert Path("mine.csv").read_text() == "dataset,notes\n"
        for options in (["--force"], []):  # the second time it is our own
            assert kd("compare", *DIGITS, *SMALL, "--csv", "mine.csv", *options)[0] == 0
            assert len(Path("mine.csv").read_text().splitlines()) == 1 + 4

    def test_a_broken_run_is_named_after_the_table_of_the_others(
        self, kd: CommandLine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        calls = itertools.count()

        def break_one(*arguments: Any) -> Quality:
            if next(calls) == 3:
                raise ValueError("broken")
            return measure_quality(*arguments)

        monkeypatch.setattr(runs, "measure_quality", break_one)
        code, stdout, stderr = kd("compare", *DIGITS, *SMALL, "--json")
        assert [len(cell["runs"]) for cell in json.loads(stdout)["cells"]] == [2, 1]
        assert (code, stderr) == (1, "kd: mlp-8 kd (T 4, alpha 0.9), seed 1: ValueError: broken\n")


@pytest.mark.skipif(os.name != "posix", reason="sends Unix signals")
@pytest.mark.parametrize("kind", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_an_interrupt_is_one_line_that_says_what_is_kept_and_exit_code_130(
    tmp_path: Path, kind: signal.Signals
) -> None:
    options = ["--dataset", "digits", "--arch", "mlp-4", "--epochs", "1000000"]
    command = [sys.executable, "-m", "kd_cli", "train-teacher", *options]
    environment = os.environ | {"KD_DATA_DIR": str(tmp_path), "KD_MODELS_DIR": str(tmp_path)}
    with subprocess.Popen(
        command, env=environment, stderr=subprocess.PIPE, text=True, preexec_fn=hear_interrupts
    ) as run:
        state = tmp_path / "digits" / "teacher.safetensors.resume"
        deadline = time.monotonic() + 60
        while not state.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        run.send_signal(kind)
        try:
            _, stderr = run.communicate(timeout=60)
        finally:
            run.kill()
    assert (run.returncode, stderr.count("\n")) == (130, 1)
    assert re.search(rf"{re.escape(str(state))} keeps \d+ of 1000000 epochs: repeat the command with --resume", stderr)
    assert sorted(path.name for path in state.parent.iterdir()) == ["prepared.safetensors", state.name]


def test_an_interrupt_while_a_refusal_is_worded_is_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(_: Exception) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("kd_cli.config.ConfigError.__str__", interrupt)
    assert main(["distill", "--method", "nonsense"]) == 130
    assert "stopped" in capsys.readouterr().err


def test_an_interrupted_command_says_that_it_was_stopped(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("kd_cli.commands.evaluate.evaluate", Mock(side_effect=KeyboardInterrupt))
    assert main(["evaluate"]) == 130
    assert capsys.readouterr().err.strip() == "kd: stopped; no file is half written"
