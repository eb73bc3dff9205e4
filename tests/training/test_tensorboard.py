"""What TensorBoard is given: measures of steps and epochs, and what the run was told and came to."""

from pathlib import Path
from typing import Any

import pytest

from kd_cli.training import tensorboard
from kd_cli.training.loop import REFRESH
from tests.conftest import CommandLine, read_json

pytest.importorskip("tensorboard", reason="needs the extra 'tensorboard'")

DIGITS = ("-d", "digits", "--device", "cpu", "--json")
MANY = ("--seeds", "1", "--jobs", "1", "-e", "1")


def read(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """The scalars that a folder has, by name: (step, value) for each."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return {name: [(event.step, event.value) for event in events.Scalars(name)] for name in events.Tags()["scalars"]}


def hyperparameters(folder: Path) -> dict[str, Any]:
    """The table of what the run was told."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    events = EventAccumulator(str(folder))
    events.Reload()
    content = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    values = HParamsPluginData.FromString(content).session_start_info.hparams
    return {name: value.string_value or value.number_value for name, value in values.items()}


def folders(path: str = "logs") -> list[str]:
    """The folders that have a run."""
    return sorted({str(found.parent.relative_to(path)) for found in Path(path).rglob("events.*")})


def test_a_students_epochs_and_terms_are_written(kd: CommandLine) -> None:
    options = ("--student", "mlp-8", "-e", "3", "--batch-size", "16", "--tensorboard", "logs")
    result = read_json(kd("distill", *DIGITS, *options))
    (folder,) = Path("logs").iterdir()
    scalars = read(folder)
    steps = -(-1297 // 16)
    for name, key in (("loss", "loss"), ("test accuracy", "accuracy")):
        expected: list[tuple[int, Any]] = [
            (steps * epoch["epoch"], pytest.approx(epoch[key], rel=1e-6)) for epoch in result["history"]
        ]
        assert scalars[f"epochs/{name}"] == expected
    terms = zip(scalars["epochs/term teacher"], scalars["epochs/term labels"], strict=True)
    sums = [teacher + labels for (_, teacher), (_, labels) in terms]
    assert sums == pytest.approx([loss for _, loss in scalars["epochs/loss"]], rel=1e-5)
    assert [step for step, _ in scalars["steps/loss"]] == [steps * epoch + REFRESH for epoch in range(3)]
    rates = [rate for _, rate in scalars["steps/learning rate"]]
    assert max(rates) > 0.001 > rates[-1]
    assert scalars["final/test accuracy"][0][1] == pytest.approx(result["accuracy"])


def test_what_the_run_was_told_is_written(kd: CommandLine) -> None:
    kd("distill", *DIGITS, "--student", "mlp-4", "-e", "1", "--lr", "0.002", "--tensorboard", "logs")
    (folder,) = Path("logs").iterdir()
    told = hyperparameters(folder)
    assert (told["lr"], told["method"], told["alpha"], told["schedule"]) == (0.002, "kd", 0.9, "one-cycle")


def test_a_teacher_is_written_with_validation_accuracies_where_there_are_some(kd: CommandLine) -> None:
    options = ("--arch", "mlp-4", "-e", "1", "--validation-fraction", "0.1", "--tensorboard", "logs")
    assert kd("train-teacher", *DIGITS, *options)[0] == 0
    (folder,) = Path("logs").iterdir()
    assert "epochs/validation accuracy" in read(folder)


def test_a_second_run_has_a_folder_of_its_own(kd: CommandLine) -> None:
    for _ in range(2):
        assert kd("train-teacher", *DIGITS, "--arch", "mlp-4", "-e", "1", "--tensorboard", "logs")[0] == 0
    assert folders() == [f"teacher mlp-4 labels lr=0.001 seed=0{number}" for number in ("", "-2")]


def test_a_comparison_writes_each_run_and_comes_to_the_same(kd: CommandLine) -> None:
    compare = ("compare", *DIGITS, *MANY, "--students", "mlp-4")
    with_logs = read_json(kd(*compare, "--results-dir", "one", "--tensorboard", "logs"))
    without = read_json(kd(*compare, "--results-dir", "two"))
    assert folders() == [
        "student mlp-4 kd lr=0.001 temperature=4.0 alpha=0.9 seed=0",
        "student mlp-4 labels lr=0.001 seed=0",
    ]
    assert [cell["runs"][0]["nll"] for cell in with_logs["cells"]] == [
        cell["runs"][0]["nll"] for cell in without["cells"]
    ]


def test_a_study_writes_its_trials_apart_with_validation_accuracies(kd: CommandLine) -> None:
    pytest.importorskip("optuna", reason="needs the extra 'tune'")
    read_json(kd("tune", *DIGITS, *MANY, "--student", "mlp-4", "--trials", "2", "--tensorboard", "logs"))
    trials = [folder for folder in folders() if folder.startswith("trials")]
    assert (len(trials), len(folders())) == (12, 14)  # two trials of two methods, with three seeds each
    for folder in folders():
        scalars = read(Path("logs") / folder)
        assert ("epochs/validation accuracy" in scalars) == (folder in trials)
        assert ("epochs/test accuracy" in scalars) == (folder not in trials)


def test_without_the_library_an_error_says_how_to_get_it(kd: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorboard, "find_spec", lambda name: None)
    code, stdout, stderr = kd("distill", *DIGITS, "--tensorboard", "logs")
    assert (code, stdout) == (1, "")
    assert stderr == "kd: --tensorboard needs TensorBoard: pip install 'kd-cli[tensorboard]'\n"


def test_a_folder_that_cannot_be_is_found_out_before_the_work(kd: CommandLine) -> None:
    Path("logs").write_text("a file")
    code, _, stderr = kd("distill", *DIGITS, "--tensorboard", "logs")
    assert (code, stderr.count("\n")) == (1, 1)
    assert "logs" in stderr
