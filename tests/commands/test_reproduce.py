"""Reproducing a paper: each network is trained once, after what it needs, and its errors are counted."""

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import kd_cli
from kd_cli.commands import reproduce_config, reproduce_runs
from kd_cli.commands.distill import distill
from kd_cli.commands.evaluate import evaluate
from kd_cli.commands.job import StudentConfig
from kd_cli.commands.recipes import Paper, Reading, Recipe, Row, Setting
from kd_cli.commands.reproduce import reproduce
from kd_cli.commands.reproduce_config import ReproduceConfig
from kd_cli.commands.reproduce_runs import NetworkTask, train_network
from kd_cli.commands.results import ReproductionResult, TrainingResult
from kd_cli.config import (
    ClassBiasConfig,
    ConfigError,
    DataConfig,
    DeviceName,
    KdError,
    LabelConfig,
    OutputConfig,
    Role,
    RunConfig,
    RunStoppedError,
    TrainingConfig,
    TrainingPrecision,
)
from kd_cli.distillation.methods import MethodConfig
from kd_cli.networks.checkpoint import load_checkpoint
from kd_cli.networks.spec import parse_spec
from kd_cli.training.loop import Callback, Epoch, Training
from tests.conftest import CommandLine, read_json

CPU = torch.device("cpu")

SHORT = TrainingConfig(epochs=2, threads=1)
TEACHER = Recipe("teacher", parse_spec("mlp-16:dropout=0.1"), replace(SHORT, lr=0.01), role=Role.teacher)
PLAIN = Recipe("plain", parse_spec("mlp-16"), SHORT, settings=(Setting(1e-5), Setting(0.005)))
SOFT = Recipe(
    "soft",
    parse_spec("mlp-16"),
    SHORT,
    MethodConfig("kd", 20),
    teacher=TEACHER,
    settings=(Setting(1e-5, 0.5), Setting(0.005, 0.5)),
)
ONLY_FOUR = Recipe(
    *(
        "only",
        parse_spec("mlp-16"),
        SHORT,
        MethodConfig("kd", 20),
        LabelConfig(only_classes=("5", "6", "7", "8")),
        TEACHER,
    ),
    settings=(Setting(1e-5), Setting(0.005)),
    sets_aside=True,
)

ROWS = (
    Row("teacher", "a teacher", (Reading("errors", TEACHER, 67),)),
    Row("soft", "a student", (Reading("errors", SOFT, 74, PLAIN),), "fewer", lambda means: means["errors"] < 500),
    Row(
        "only",
        "four classes",
        (
            Reading("on sevens", ONLY_FOUR, of_class="7"),
            Reading("with biases", ONLY_FOUR, 1320, fit_bias=("5", "6", "7", "8")),
        ),
    ),
)


@pytest.fixture(autouse=True, scope="module")
def tiny_paper() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setitem(reproduce_config.PAPERS, "tiny", Paper("Somebody 2015", "digits", ROWS, ROWS[:1]))
        yield


@pytest.fixture
def config(data: DataConfig, tmp_path: Path) -> ReproduceConfig:
    """Everything, twice; nothing is kept yet."""
    return ReproduceConfig(seeds=2, jobs=1, results_dir=tmp_path, data_dir=data.data_dir, device=DeviceName.cpu)


@pytest.fixture(scope="module")
def kept(data: DataConfig, tmp_path_factory: pytest.TempPathFactory) -> ReproduceConfig:
    """The same, where all networks of `result` are kept."""
    folder = tmp_path_factory.mktemp("results")
    return ReproduceConfig(seeds=2, jobs=1, results_dir=folder, data_dir=data.data_dir, device=DeviceName.cpu)


@pytest.fixture(scope="module")
def result(kept: ReproduceConfig) -> ReproductionResult:
    return reproduce("tiny", kept)


def networks(config: ReproduceConfig, name: str) -> list[Path]:
    return sorted((config.results_dir / "digits" / "tiny").glob(f"{name}-lr*.safetensors"))


def test_errors_are_those_that_evaluate_counts(
    result: ReproductionResult, kept: ReproduceConfig, data: DataConfig, run: RunConfig
) -> None:
    measured = result.rows[0].readings[0].ours
    assert measured is not None
    expected = [evaluate([path], data, run).models[0].error_count for path in networks(kept, "teacher")]
    assert measured.runs == tuple(expected)
    assert measured.mean == sum(expected) / 2
    assert measured.std == pytest.approx(abs(expected[0] - expected[1]) / 2**0.5)


def test_errors_of_a_class_and_with_biases_are_counted(
    result: ReproductionResult, kept: ReproduceConfig, data: DataConfig, run: RunConfig
) -> None:
    of_class, biased = (reading.ours for reading in result.rows[2].readings)
    assert of_class is not None
    assert biased is not None
    chosen = [path for path in networks(kept, "only") if "lr0.005" in path.name]
    with_images = replace(data, validation_fraction=0.1)
    for number, path in enumerate(chosen):
        (model,) = evaluate([path], with_images, run, bias=ClassBiasConfig(fit_class_bias=("5", "6", "7", "8"))).models
        assert of_class.runs[number] == sum(model.confusion[7]) - model.confusion[7][7]
        assert model.with_class_bias is not None
        assert biased.runs[number] == model.with_class_bias.quality.error_count
        assert biased.biases[number] == model.with_class_bias.biases
    assert (len(chosen), of_class.biases) == (2, ())


def test_the_learning_rate_is_chosen_by_validation_images(result: ReproductionResult) -> None:
    train = [command for command in result.rows[1].commands if command.startswith("kd distill")]
    assert len(train) == 2
    assert all("--lr 0.005" in command for command in train)
    assert ["--alpha 0.5" in command for command in train] == [True, False]


def test_students_learn_from_the_first_teacher(result: ReproductionResult, kept: ReproduceConfig) -> None:
    first, _ = networks(kept, "teacher")
    for path in networks(kept, "soft"):
        assert load_checkpoint(path, CPU).metadata.options["teachers"] == [str(first)]


def test_no_network_is_trained_twice(result: ReproductionResult, kept: ReproduceConfig) -> None:
    # Two runs of each, and two trials of three; that of the better one is a run of the network that sets images aside.
    assert result.runs.total == 4 * 2 + 3 * 2
    assert result.runs.carried_out == len(list(kept.results_dir.rglob("*.safetensors"))) == result.runs.total - 1
    again = reproduce("tiny", kept)
    assert again.runs.carried_out == 0
    assert again.rows == result.rows


def test_a_fresh_start_trains_all_anew(result: ReproductionResult, kept: ReproduceConfig) -> None:
    again = reproduce("tiny", replace(kept, row=("teacher",), fresh=True))
    assert again.runs.carried_out == again.runs.total == 2


def test_a_claim_is_judged_by_the_means(result: ReproductionResult) -> None:
    assert [row.holds for row in result.rows] == [None, True, None]


def test_rows_that_share_networks_train_them_once(config: ReproduceConfig) -> None:
    assert reproduce("tiny", replace(config, row=("teacher",))).runs.carried_out == 2
    assert reproduce("tiny", replace(config, row=("teacher", "soft"))).runs.carried_out == 8


@pytest.mark.parametrize("trained", [0, 3])
def test_a_stopped_command_says_what_is_kept_and_goes_on(
    config: ReproduceConfig, monkeypatch: pytest.MonkeyPatch, trained: int
) -> None:
    def stop_after_some(task: NetworkTask) -> str | None:
        if not left:
            raise KeyboardInterrupt
        left.pop()
        return train_network(task)

    left = [None] * trained
    monkeypatch.setattr("kd_cli.commands.reproduce.train_network", stop_after_some)
    with pytest.raises(RunStoppedError, match=f"keeps {trained} of 14 networks: repeat the command"):
        reproduce("tiny", config)
    monkeypatch.setattr("kd_cli.commands.reproduce.train_network", train_network)
    assert reproduce("tiny", config).runs.carried_out == 13 - trained


class Stop(Callback):
    """As if the user pressed Ctrl-C after an epoch."""

    def on_epoch_end(self, training: Training, epoch: Epoch) -> None:
        raise KeyboardInterrupt


def test_a_network_that_was_stopped_goes_on_after_its_last_epoch(
    config: ReproduceConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    resumed = []

    def train(
        student: StudentConfig, output: OutputConfig, force: bool, callbacks: Sequence[Callback]
    ) -> TrainingResult:
        resumed.append(output.resume)
        return distill(student, output, force, callbacks=[Stop()] if len(resumed) == 1 else callbacks)

    monkeypatch.setattr(reproduce_runs, "distill", train)
    config = replace(config, row=("teacher",))
    with pytest.raises(RunStoppedError, match="keeps 0 of 2 networks"):
        reproduce("tiny", config)
    reproduce("tiny", config)
    assert resumed == [False, True, False]


def test_a_network_that_learnt_nothing_counts_and_is_not_trained_again(
    config: ReproduceConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    hopeless = replace(TEACHER, training=replace(SHORT, epochs=1, lr=1e-12))
    rows = (Row("hopeless", "nothing", (Reading("errors", hopeless),)),)
    monkeypatch.setitem(reproduce_config.PAPERS, "tiny", Paper("Somebody 2015", "digits", rows, rows))
    first, again = reproduce("tiny", config), reproduce("tiny", config)
    assert (first.failed, again.runs.carried_out) == ((), 0)
    measured = again.rows[0].readings[0].ours
    assert measured is not None
    assert measured.mean > 350  # of 500


def test_what_fails_is_named_and_takes_down_only_what_needs_it(
    config: ReproduceConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(task: NetworkTask) -> str | None:
        return "too hard" if task.run.recipe.name == "soft" else train_network(task)

    monkeypatch.setattr("kd_cli.commands.reproduce.train_network", fail)
    result = reproduce("tiny", config)
    assert [(each.run, each.error) for each in result.failed] == [
        ("soft, seed 0, trial of lr 1e-05, alpha 0.5", "too hard"),
        ("soft, seed 0, trial of lr 0.005, alpha 0.5", "too hard"),
    ]
    soft = result.rows[1]
    assert (soft.readings[0].ours, soft.holds) == (None, None)
    assert soft.readings[0].from_labels is not None
    assert result.rows[2].readings[0].ours is not None


def test_a_setting_that_comes_to_nothing_has_lost_and_no_more(
    config: ReproduceConfig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(task: NetworkTask) -> str | None:
        return "diverged" if task.run.trial and task.run.recipe.training.lr == 0.005 else train_network(task)

    monkeypatch.setattr("kd_cli.commands.reproduce.train_network", fail)
    result = reproduce("tiny", replace(config, row=("soft",)))
    assert result.failed == ()
    assert "soft, seed 0, trial of lr 0.005, alpha 0.5: diverged; another setting is taken" in caplog.messages
    assert ["--lr 1e-05" in command for command in result.rows[0].commands] == [False, True, True, False]


def test_without_any_network_there_is_no_result(config: ReproduceConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kd_cli.commands.reproduce.train_network", lambda task: "too hard")
    with pytest.raises(KdError, match="no network came to anything; the first one: too hard"):
        reproduce("tiny", config)


def test_the_commands_repeat_the_first_run(kd: CommandLine, result: ReproductionResult, kept: ReproduceConfig) -> None:
    row = result.rows[2]
    answers = [read_json(kd(*shlex.split(command)[1:], "--json")) for command in row.commands]
    assert row.readings[0].ours is not None
    assert row.readings[1].ours is not None
    plain, biased = answers[-2]["models"][0], answers[-1]["models"][0]
    assert sum(plain["confusion"][7]) - plain["confusion"][7][7] == row.readings[0].ours.runs[0]
    assert biased["with_class_bias"]["quality"]["error_count"] == row.readings[1].ours.runs[0]


def test_all_networks_have_the_precision_that_is_asked_for(config: ReproduceConfig) -> None:
    (row,) = reproduce("tiny", replace(config, row=("teacher",), precision=TrainingPrecision.bf16)).rows
    assert "--precision bf16" in row.commands[0]
    for path in networks(config, "teacher"):
        assert load_checkpoint(path, CPU).metadata.options["precision"] == "bf16"


def test_the_api_takes_the_same_options(result: ReproductionResult, kept: ReproduceConfig) -> None:
    again = kd_cli.reproduce("tiny", **vars(kept))
    assert (again.runs.carried_out, again.rows) == (0, result.rows)


@pytest.mark.slow
def test_two_at_a_time_come_to_the_same(result: ReproductionResult, kept: ReproduceConfig, tmp_path: Path) -> None:
    again = reproduce("tiny", replace(kept, jobs=2, results_dir=tmp_path / "other"))
    assert [row.readings for row in again.rows] == [row.readings for row in result.rows]


class TestConfiguration:
    def test_rows_are_those_of_the_scale_that_is_asked_for(self) -> None:
        assert [row.name for row in ReproduceConfig().rows_of("tiny")] == ["teacher", "soft", "only"]
        assert [row.name for row in ReproduceConfig(quick=True).rows_of("tiny")] == ["teacher"]
        assert [row.name for row in ReproduceConfig(row=("only", "teacher")).rows_of("tiny")] == ["teacher", "only"]

    def test_an_unknown_paper_or_row_is_refused_with_the_nearest(self) -> None:
        with pytest.raises(ConfigError, match=r"unknown paper 'tinny' \(did you mean tiny\?\)"):
            ReproduceConfig().rows_of("tinny")
        with pytest.raises(ConfigError, match=r"unknown row 'sof' \(did you mean soft\?\)"):
            ReproduceConfig(row=("sof",)).rows_of("tiny")
