"""Tuning: both sides have the same chance, the test set chooses nothing, and a study that was stopped goes on."""

import shlex
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor, Future
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from kd_cli.commands import trials
from kd_cli.commands.results import TrainingResult, TuningResult
from kd_cli.commands.train_teacher import train_teacher
from kd_cli.commands.trials import TrialTask
from kd_cli.commands.tune import tune
from kd_cli.commands.tune_config import FINALISTS, REPEATS, TuneConfig
from kd_cli.config import MAX_SEED, ConfigError, DataConfig, KdError, RunConfig, RunStoppedError, TrainingConfig
from kd_cli.data.dataset import Dataset
from kd_cli.networks.spec import parse_spec
from kd_cli.training import loop
from kd_cli.training.loop import DivergedError, Training
from kd_cli.training.processes import InProcess
from tests.commands.curves import plant
from tests.conftest import CommandLine, make_dataset, read_json
from tests.sources import register

MLP = parse_spec("mlp-4")
TWO_EPOCHS = TrainingConfig(epochs=2)
ALL = 5 + FINALISTS * REPEATS
"""Trials and repeats of a method with five trials, if pruning leaves enough finalists."""

Tune = Callable[..., TuningResult]


@pytest.fixture
def tune_here(data: DataConfig, run: RunConfig, trained_teacher: TrainingResult, tmp_path: Path) -> Tune:
    """Tune kd and the baseline, with five trials each, one at a time, unless told otherwise."""

    def here(
        methods: Sequence[str] = ("kd",),
        trials: int = 5,
        results: str = "results",
        training: TrainingConfig = TWO_EPOCHS,
        dataset: str | None = None,
        make_executor: Any = InProcess,
        **more: Any,
    ) -> TuningResult:
        options: dict[str, Any] = {"seeds": 2, "jobs": 1} | more
        config = TuneConfig(tuple(methods), MLP, trials, results_dir=tmp_path / results, **options)
        images = replace(data, dataset=dataset) if dataset else data
        return tune(config, data=images, training=training, run=run, make_executor=lambda workers: make_executor())

    return here


def without_seconds(result: TuningResult) -> list[Any]:
    return [
        replace(
            row,
            seconds=0.0,
            runs=tuple(replace(run, train_seconds=0.0) for run in row.runs),
            mean=row.mean | {"train_seconds": 0.0},
            std=row.std | {"train_seconds": 0.0},
            search=tuple(replace(trial, train_seconds=0.0) for trial in row.search),
        )
        for row in result.rows
    ]


class Counting(InProcess):
    """Carries tasks out here, and counts them; a class of its own for each test."""

    tasks: list[Any]

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        self.tasks.append(args[0])
        return super().submit(fn, *args, **kwargs)


@pytest.fixture
def counting() -> type[Counting]:
    return type("Mine", (Counting,), {"tasks": []})


class TestTheResult:
    def test_gives_every_method_and_the_baseline_the_same_number_of_trials(self, tune_here: Tune) -> None:
        result = tune_here(methods=("kd", "labels", "dist"))
        assert [(row.method, row.trials, len(row.search)) for row in result.rows] == [
            (method, 5, 5) for method in ("labels", "kd", "dist")
        ]
        assert [row.repeats for row in result.rows] == [REPEATS * FINALISTS] * 3
        assert (result.trials, result.trials_carried_out) == (5, 3 * ALL)
        assert [sorted(row.options) for row in result.rows] == [
            ["lr"],
            ["alpha", "lr", "temperature"],
            ["beta", "lr", "temperature", "weight"],
        ]

    def test_chooses_the_setting_with_the_best_validation_accuracy_over_seeds(self, tune_here: Tune) -> None:
        for row in tune_here().rows:
            runs = [(trial.options, (trial.accuracies[-1], *trial.repeats)) for trial in row.search if trial.repeats]
            best = max(fmean(accuracies) for _, accuracies in runs)
            assert len(runs) == FINALISTS
            assert (row.options, row.validation_runs) in runs
            assert row.validation_accuracy == fmean(row.validation_runs) == best

    def test_validates_on_training_images_and_trains_on_all_of_them_in_the_end(self, tune_here: Tune) -> None:
        result = tune_here()
        assert (result.validation_images, result.test_images) == (135, 500)
        for row in result.rows:
            for run in row.runs:
                assert run.accuracy == pytest.approx(1 - run.error_count / 500)

    def test_compares_with_the_tuned_baseline_seed_by_seed(self, tune_here: Tune) -> None:
        labels, kd = tune_here(seeds=3).rows
        gains = [own.accuracy - base.accuracy for own, base in zip(kd.runs, labels.runs, strict=True)]
        assert labels.difference is None
        assert kd.difference is not None
        assert kd.difference.mean == pytest.approx(sum(gains) / 3)

    def test_leaves_out_what_cannot_work(self, tune_here: Tune) -> None:
        result = tune_here(methods=("kd", "at"))
        assert [row.method for row in result.rows] == ["labels", "kd"]
        assert "has none" in result.refused[0].reason

    @pytest.mark.slow
    def test_is_the_same_with_trials_side_by_side(
        self, data: DataConfig, run: RunConfig, tmp_path: Path, tune_here: Tune
    ) -> None:
        config = TuneConfig(("kd",), MLP, 5, seeds=2, jobs=2, results_dir=tmp_path / "others")
        side_by_side = tune(config, data=data, run=run, training=TWO_EPOCHS)
        assert side_by_side.runs.side_by_side == 2
        assert without_seconds(side_by_side) == without_seconds(tune_here())


class TestTheCommandLine:
    OPTIONS = ("-d", "digits", "--methods", "kd", "--student", "mlp-4", "--trials", "2", "--seeds", "2", "-e", "1")

    def test_the_command_of_a_row_repeats_its_first_run(self, kd: CommandLine) -> None:
        result = read_json(kd("tune", *self.OPTIONS, "--batch-size", "32", "--jobs", "1", "--json"))
        for row in result["rows"]:
            program, *arguments = shlex.split(row["command"])
            repeated = read_json(kd(*arguments, "--json"))
            assert program == "kd"
            assert repeated["method"] == row["method"]
            assert repeated["error_count"] == row["runs"][0]["error_count"]

    def test_the_json_object_has_what_the_design_promises(self, kd: CommandLine) -> None:
        result = read_json(kd("tune", *self.OPTIONS, "--jobs", "1", "--json"))
        assert (result["dataset"], result["student"], result["trials"]) == ("digits", "mlp-4", 2)
        for row in result["rows"]:
            assert {"method", "options", "trials", "validation_accuracy", "mean", "std", "difference"} < row.keys()
            assert row["options"]["lr"] > 0

    def test_compare_takes_the_settings_from_the_file_or_from_what_was_printed(self, kd: CommandLine) -> None:
        printed = kd("tune", *self.OPTIONS, "--jobs", "1", "--json")
        tuned = read_json(printed)
        Path("printed.json").write_text(printed[1])
        for file in (tuned["settings"], "printed.json"):
            compared = read_json(
                kd("compare", "-d", "digits", "--from-study", file, "--seeds", "2", "-e", "1", "--json")
            )
            assert compared["runs"]["carried_out"] == 0  # they are those that kd tune has carried out
            for row, cell in zip(tuned["rows"], compared["cells"], strict=True):
                assert {key: cell[key] for key in ("student", "method", "options", "runs", "difference")} == {
                    key: row[key] for key in ("student", "method", "options", "runs", "difference")
                }

    def test_a_table_names_settings_and_commands(self, kd: CommandLine) -> None:
        code, stdout, _ = kd("tune", *self.OPTIONS, "--jobs", "1", "--csv", "table.csv")
        assert code == 0
        assert "2 trials each" in stdout
        assert stdout.count("\nkd distill --student mlp-4") == 2
        assert len(Path("table.csv").read_text().splitlines()) == 3

    def test_without_optuna_an_error_says_how_to_get_it(self, kd: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
        for module in [name for name in sys.modules if name.split(".")[0] == "optuna"]:
            monkeypatch.setitem(sys.modules, module, None)
        for module in ("search", "trials", "tune"):
            monkeypatch.delitem(sys.modules, f"kd_cli.commands.{module}")
        assert kd("tune", *self.OPTIONS) == (1, "", "kd: kd tune needs Optuna: pip install 'kd-cli[tune]'\n")


def poisoned(dataset: Dataset) -> Dataset:
    """The same training images; of the test images, no label is right."""
    labels = (dataset.test.labels + 1) % len(dataset.info.classes)
    return replace(dataset, test=replace(dataset.test, labels=labels))


def test_the_labels_of_the_test_set_choose_nothing(
    monkeypatch: pytest.MonkeyPatch, tune_here: Tune, data: DataConfig, run: RunConfig
) -> None:
    results = []
    for name, dataset in (("three", make_dataset(3)), ("three-poisoned", poisoned(make_dataset(3)))):
        register(monkeypatch, name, dataset)
        training = TrainingConfig(epochs=2, batch_size=16)
        train_teacher(MLP, replace(data, dataset=name), training, run, force=True)
        results.append(tune_here(dataset=name, training=training))
    honest, other = results
    assert [row.options for row in honest.rows] == [row.options for row in other.rows]
    assert [[trial.accuracies for trial in row.search] for row in honest.rows] == [
        [trial.accuracies for trial in row.search] for row in other.rows
    ]
    assert all(row.mean["accuracy"] > 0.5 for row in honest.rows)
    assert all(row.mean["accuracy"] < 0.5 for row in other.rows)


class TestPlanted:
    @pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2, 3, 4))])
    def test_the_best_value_of_an_option_is_found(
        self, monkeypatch: pytest.MonkeyPatch, tune_here: Tune, seed: int
    ) -> None:
        best = 0.002 * 6**seed  # all over the range
        plant(monkeypatch, best)
        training = TrainingConfig(epochs=5, seed=seed, batch_size=512)
        result = tune_here(methods=("planted",), trials=24, training=training, seeds=1)
        row = result.rows[1]
        assert row.options["weight"] == pytest.approx(best, rel=0.1)

    def test_a_setting_that_is_good_with_one_seed_alone_is_not_chosen(
        self, monkeypatch: pytest.MonkeyPatch, tune_here: Tune
    ) -> None:
        def luck(training: Training) -> float:
            return 1.0 if training.config.lr == 0.001 and training.config.seed == 0 else 0.0

        plant(monkeypatch, 0.1, luck)
        result = tune_here(methods=("planted",), trials=12, training=TrainingConfig(epochs=1), seeds=1)
        for row in result.rows:
            assert max(trial.accuracies[-1] for trial in row.search) == 1.0
            assert row.options["lr"] != 0.001

    def test_pruning_stops_what_falls_behind_and_loses_nothing(
        self, monkeypatch: pytest.MonkeyPatch, tune_here: Tune
    ) -> None:
        plant(monkeypatch, 0.1)
        training = TrainingConfig(epochs=9, batch_size=512)
        pruned = tune_here(methods=("planted",), trials=12, training=training, seeds=1).rows[1]
        whole = tune_here(methods=("planted",), trials=12, training=training, seeds=1, prune=False).rows[1]
        assert {len(trial.accuracies) for trial in whole.search} == {9}
        assert {trial.state for trial in whole.search} == {"complete"}
        assert {trial.state for trial in pruned.search} == {"complete", "pruned"}
        assert {len(trial.accuracies) for trial in pruned.search} <= {1, 3, 9}
        assert pruned.validation_accuracy > whole.validation_accuracy - 0.005


class TestStudiesThatWereStopped:
    def test_are_found_and_not_repeated(self, tune_here: Tune, counting: type[Counting]) -> None:
        first = tune_here()
        again = tune_here(make_executor=counting)
        assert counting.tasks == []
        assert (again.trials_carried_out, again.runs.carried_out) == (0, 0)
        assert again.rows == first.rows

    @pytest.mark.parametrize("most", [0, 1, 6, 15])
    def test_go_on_and_end_with_the_same_table(self, tune_here: Tune, counting: type[Counting], most: int) -> None:
        class Interrupted(Counting):
            tasks: list[Any] = []  # noqa: RUF012

            def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
                if len(self.tasks) == most:
                    raise KeyboardInterrupt
                return super().submit(fn, *args, **kwargs)

        with pytest.raises(RunStoppedError, match=f"studies keeps {most} of {2 * ALL} trials and repeats: repeat the "):
            tune_here(make_executor=Interrupted)
        result = tune_here(make_executor=counting)
        assert (
            sum(isinstance(task, TrialTask) for task in counting.tasks) == result.trials_carried_out == 2 * ALL - most
        )
        assert without_seconds(result) == without_seconds(tune_here(results="others"))

    def test_are_begun_anew_if_asked_to(self, tune_here: Tune) -> None:
        tune_here()
        assert tune_here(fresh=True).trials_carried_out == 2 * ALL
        assert tune_here().trials_carried_out == 0

    def test_with_other_options_are_others(self, tune_here: Tune) -> None:
        tune_here()
        assert tune_here(training=TrainingConfig(epochs=1)).trials_carried_out == 2 * ALL
        assert tune_here(prune=False).trials_carried_out == 2 * ALL

    def test_a_method_that_is_added_finds_the_trials_of_the_others(self, tune_here: Tune) -> None:
        tune_here()
        assert tune_here(methods=("kd", "dist")).trials_carried_out == ALL


class TestTrialsThatDoNotEnd:
    def test_that_diverge_are_results_and_are_not_chosen(
        self, tune_here: Tune, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fit(training: Any, callbacks: Any) -> None:
            loop.fit(training, callbacks)
            if training.config.lr != 0.001:
                raise DivergedError("the loss became inf")

        monkeypatch.setattr(trials, "fit", fit)
        result = tune_here()
        for row in result.rows:
            assert row.options["lr"] == 0.001
            assert {trial.state for trial in row.search} >= {"complete", "diverged"}
        assert result.failed == ()
        assert tune_here().trials_carried_out == 0

    def test_that_break_are_named_and_carried_out_again(self, tune_here: Tune, monkeypatch: pytest.MonkeyPatch) -> None:
        broken: list[int] = []

        def fit(training: Any, callbacks: Any) -> None:
            if len(broken) < 2:
                broken.append(1)
                raise MemoryError("no\nmore")
            loop.fit(training, callbacks)

        monkeypatch.setattr(trials, "fit", fit)
        result = tune_here()
        assert [each.error for each in result.failed] == ["MemoryError: no more"] * 2
        assert [row.trials for row in result.rows] == [3, 5]
        assert [row.trials for row in tune_here().rows] == [5, 5]
        assert tune_here().trials_carried_out == 0

    def test_whose_process_dies_take_no_other_down(self, tune_here: Tune) -> None:
        class Deadly(InProcess):
            def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
                task = args[0]
                if not isinstance(task, TrialTask) or task.cell.method.is_baseline or task.cell.lr != 0.001:
                    return super().submit(fn, *args, **kwargs)
                future: Future[object] = Future()
                future.set_exception(BrokenExecutor("died"))
                return future

        result = tune_here(make_executor=Deadly)
        assert [row.trials for row in result.rows] == [5, 3]
        assert all("died, twice" in each.error for each in result.failed)

    def test_of_the_baseline_leave_nothing_to_compare_with(
        self, tune_here: Tune, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fit(training: Any, callbacks: Any) -> None:
            raise DivergedError("the loss became inf")

        monkeypatch.setattr(trials, "fit", fit)
        with pytest.raises(KdError, match="no trial of the baseline came to an end: the loss diverged"):
            tune_here()


class TestRefusals:
    @pytest.mark.parametrize(
        ("training", "named"),
        [
            (TrainingConfig(patience=2), "--patience: "),
            (TrainingConfig(keep_best=True), "--keep-best: "),
            (TrainingConfig(seed=MAX_SEED - 1), "--seed 4294967296"),
        ],
    )
    def test_come_before_the_first_trial(self, tune_here: Tune, training: TrainingConfig, named: str) -> None:
        def never() -> None:
            raise AssertionError

        with pytest.raises(ConfigError, match=named):
            tune_here(training=training, make_executor=never)

    def test_without_validation_images_there_is_nothing_to_choose_by(
        self, data: DataConfig, run: RunConfig, tmp_path: Path
    ) -> None:
        with pytest.raises(ConfigError, match="--validation-fraction 0"):
            tune(TuneConfig(results_dir=tmp_path), data=replace(data, validation_fraction=0), run=run)

    @pytest.mark.parametrize("methods", [(), ("labels",), ("nonsense",)])
    def test_of_nothing_to_compare_are_usage_errors(self, methods: tuple[str, ...]) -> None:
        with pytest.raises(ConfigError):
            TuneConfig(methods)
