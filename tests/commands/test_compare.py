"""Comparisons: what is compared, what is kept, and that one broken run harms no other."""

import dataclasses
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor, Future
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch

from kd_cli.commands import runs
from kd_cli.commands.compare import compare, summarise
from kd_cli.commands.distill import distill
from kd_cli.commands.grid import Cell, ComparisonConfig
from kd_cli.commands.job import StudentConfig
from kd_cli.commands.results import CellResult, ComparisonResult, RunMeasures, TrainingResult
from kd_cli.commands.runs import Run, RunOutcome
from kd_cli.commands.train_teacher import train_teacher
from kd_cli.config import (
    MAX_SEED,
    ConfigError,
    DataConfig,
    KdError,
    LabelConfig,
    OutputConfig,
    RunConfig,
    RunStoppedError,
    TeacherConfig,
    TrainingConfig,
    Transfer,
)
from kd_cli.data.dataset import DataInfo
from kd_cli.distillation.methods import FROM_LABELS, MethodConfig
from kd_cli.evaluation.quality import measure_quality
from kd_cli.networks.spec import Spec, parse_spec
from kd_cli.training.processes import InProcess

MLP, CNN = parse_spec("mlp-8"), parse_spec("cnn-2")
ONE_EPOCH = TrainingConfig(epochs=1)

Compare = Callable[..., ComparisonResult]


@pytest.fixture
def compare_here(data: DataConfig, run: RunConfig, trained_teacher: TrainingResult, tmp_path: Path) -> Compare:
    """Compare kd with the baseline, one run at a time, unless told otherwise."""

    def here(
        methods: Sequence[str] = ("kd",),
        students: Sequence[Spec] = (MLP,),
        seeds: int = 2,
        jobs: int | None = 1,
        fresh: bool = False,
        results: str = "results",
        training: TrainingConfig = ONE_EPOCH,
        layer: str | None = None,
        **more: Any,
    ) -> ComparisonResult:
        comparison = ComparisonConfig(
            tuple(methods),
            tuple(students),
            student_layer=layer,
            seeds=seeds,
            jobs=jobs,
            fresh=fresh,
            results_dir=tmp_path / results,
        )
        return compare(comparison, data=data, run=run, training=training, **more)

    return here


def without_seconds(result: ComparisonResult) -> list[RunMeasures]:
    return [replace(run, train_seconds=0.0) for cell in result.cells for run in cell.runs]


class TestTheResult:
    def test_has_a_row_for_every_cell_with_a_run_for_every_seed(self, compare_here: Compare) -> None:
        result = compare_here(methods=("kd", "rkd"), students=(MLP, CNN), seeds=2)
        assert [(cell.student, cell.method) for cell in result.cells] == [
            (student, method) for student in ("mlp-8", "cnn-2") for method in ("labels", "kd", "rkd")
        ]
        assert all([run.seed for run in cell.runs] == [0, 1] for cell in result.cells)
        assert result.cells[1].options == {"temperature": 4, "alpha": 0.9}
        assert dataclasses.astuple(result.runs) == (12, 12, 1)

    def test_says_what_was_compared_on_what(self, compare_here: Compare, trained_teacher: TrainingResult) -> None:
        result = compare_here()
        assert (result.dataset, result.device, result.test_images) == ("digits", "cpu", 500)
        assert (result.seeds, result.epochs, result.options["batch_size"]) == ((0, 1), 1, 64)
        assert (result.teachers, result.teacher_architectures) == ((trained_teacher.checkpoint,), ("mlp-16",))

    @pytest.mark.usefixtures("two_threads")
    def test_says_that_a_run_has_one_thread_and_gives_the_others_back(self, compare_here: Compare) -> None:
        assert compare_here(seeds=1).device_name == "cpu (1 thread)"
        assert torch.get_num_threads() == 2

    def test_pairs_a_method_with_the_baseline_seed_by_seed(self, compare_here: Compare) -> None:
        labels, kd = compare_here(seeds=3).cells
        gains = [own.accuracy - base.accuracy for own, base in zip(kd.runs, labels.runs, strict=True)]
        assert labels.difference is None
        assert kd.difference is not None
        assert kd.difference.mean == pytest.approx(np.mean(gains))
        assert kd.mean["accuracy"] - labels.mean["accuracy"] == pytest.approx(np.mean(gains))
        assert kd.std["accuracy"] == pytest.approx(np.std([run.accuracy for run in kd.runs], ddof=1))

    def test_counts_errors_in_the_images_that_it_names(self, compare_here: Compare) -> None:
        result = compare_here()
        for run in (run for cell in result.cells for run in cell.runs):
            assert run.accuracy == pytest.approx(1 - run.error_count / result.test_images)

    def test_starts_its_seeds_where_the_training_does(self, compare_here: Compare) -> None:
        assert compare_here(training=TrainingConfig(epochs=1, seed=5)).seeds == (5, 6)

    def test_a_run_is_what_distill_trains(self, compare_here: Compare, student: StudentConfig) -> None:
        labels, kd = compare_here().cells
        for cell, method in ((labels, FROM_LABELS), (kd, MethodConfig())):
            alone = [
                distill(replace(student, method=method, training=TrainingConfig(epochs=1, seed=seed)))
                for seed in (0, 1)
            ]
            assert [run.error_count for run in cell.runs] == [result.error_count for result in alone]

    def test_says_which_runs_learnt_nothing(self, compare_here: Compare) -> None:
        result = compare_here(seeds=1, training=TrainingConfig(epochs=1, lr=1e6))
        assert all(run.fault and "the training loss rose" in run.fault for cell in result.cells for run in cell.runs)
        assert "fault" not in result.cells[0].mean

    def test_leaves_out_what_cannot_work_and_says_why(self, compare_here: Compare) -> None:
        result = compare_here(methods=("kd", "at"), students=(CNN,), seeds=1)  # the teacher, an MLP, has no maps
        assert [cell.method for cell in result.cells] == ["labels", "kd"]
        assert [refused.cell for refused in result.refused] == [str(Cell(CNN, MethodConfig("at")))]
        assert "mlp-16, has none" in result.refused[0].reason

    def test_leaves_out_a_layer_that_one_of_the_students_does_not_have(self, compare_here: Compare) -> None:
        result = compare_here(methods=("sp",), students=(MLP, CNN), seeds=1, layer="conv1")
        assert [(cell.student, cell.method) for cell in result.cells][1:] == [("cnn-2", "labels"), ("cnn-2", "sp")]
        assert "mlp-8 with sp: --student-layer: the network has no layer 'conv1'" in result.refused[0].reason

    def test_refuses_a_layer_that_no_student_has_before_the_first_run(self, compare_here: Compare) -> None:
        with pytest.raises(KdError, match=r"nothing to compare .*no layer 'fc9': did you mean fc"):
            compare_here(methods=("sp",), layer="fc9")

    def test_with_a_fraction_of_the_labels_every_seed_chooses_its_own(self, compare_here: Compare) -> None:
        few = {"labels": LabelConfig(0.1, Transfer.all)}
        result = compare_here(**few)
        assert (result.options["train_fraction"], result.options["transfer"]) == (0.1, Transfer.all)
        again = compare_here(results="others", training=TrainingConfig(epochs=1, seed=1), seeds=1, **few)
        for cell, other in zip(result.cells, again.cells, strict=True):
            # Not what seed 0's images, or the outputs for them, would have given.
            assert replace(cell.runs[1], train_seconds=0.0) == replace(other.runs[0], train_seconds=0.0)


def summary(gains: dict[str, list[float]]) -> dict[str, CellResult]:
    """The rows of a comparison in which each method gains so much over a baseline, run by run."""
    info = DataInfo("made up", ("yes", "no"), (1, 28, 28), (0.5,), (0.5,), digest="")
    common = StudentConfig(MLP)
    outcomes = {}
    baseline = [0.5, 0.625, 0.75, 0.6875]
    for method, own in {"labels": [0.0] * 4, **gains}.items():
        for seed, (base, gain) in enumerate(zip(baseline, own, strict=False)):
            measures = RunMeasures(seed, base + gain, 0, 0.9, 0.1, 0.1, train_seconds=1.0)
            outcomes[Run(Cell(MLP, MethodConfig(method)), seed, common)] = RunOutcome(measures)
    cells = list(dict.fromkeys(run.cell for run in outcomes))
    return {row.method: row for row in summarise(cells, outcomes, info)}


CLEAR = [0.010, 0.012, 0.011, 0.013]
WEAK = [0.010, 0.004, 0.012, 0.003]  # p = 0.04


class TestVerdicts:
    def test_are_those_of_the_table_alone_where_it_has_one_difference(self) -> None:
        row = summary({"kd": WEAK})["kd"].difference
        assert row is not None
        assert row.p_value == row.adjusted_p_value
        assert row.verdict == "better"

    def test_are_adjusted_for_how_many_there_are(self) -> None:
        # One difference in twenty is significant by chance; four in a table are judged as four.
        rows = summary({"kd": WEAK, "rkd": WEAK, "cc": WEAK, "dist": WEAK})
        for method in ("kd", "rkd", "cc", "dist"):
            difference = rows[method].difference
            assert difference is not None
            assert difference.p_value is not None
            assert difference.p_value < 0.05
            assert difference.adjusted_p_value == pytest.approx(4 * difference.p_value)
            assert difference.verdict == "no difference shown"

    def test_that_are_clear_stay(self) -> None:
        rows = summary({"kd": CLEAR, "rkd": [-gain for gain in CLEAR], "cc": WEAK})
        assert [rows[name].difference.verdict for name in ("kd", "rkd")] == ["better", "worse"]  # type: ignore[union-attr]

    @pytest.mark.parametrize("gains", [[0.0] * 4, [0.125] * 4, [0.125]], ids=["no gain", "equal gains", "one seed"])
    def test_are_open_where_there_is_no_spread(self, gains: list[float]) -> None:
        difference = summary({"kd": gains})["kd"].difference
        assert difference is not None
        assert difference.mean == gains[0]
        assert (difference.interval, difference.p_value, difference.adjusted_p_value) == (None, None, None)
        assert difference.verdict == "no difference shown"

    def test_of_one_seed_come_without_a_spread(self) -> None:
        assert summary({"kd": [0.1]})["kd"].std["accuracy"] is None

    def test_compare_only_seeds_that_both_have(self) -> None:
        info = DataInfo("made up", ("yes", "no"), (1, 28, 28), (0.5,), (0.5,), digest="")
        labels, kd = Cell(MLP, FROM_LABELS), Cell(MLP, MethodConfig())
        accuracies = {(labels, 0): 0.5, (labels, 1): 0.75, (kd, 1): 0.875, (kd, 2): 0.125}
        outcomes = {
            Run(cell, seed, StudentConfig(MLP)): RunOutcome(RunMeasures(seed, accuracy, 0, 0.9, 0.1, 0.1, 1.0))
            for (cell, seed), accuracy in accuracies.items()
        }
        row = summarise([labels, kd], outcomes, info)[1].difference
        assert row is not None
        assert row.mean == 0.125


class Counting(InProcess):
    """Carries runs out here, and counts them."""

    def __init__(self) -> None:
        self.runs: list[Run] = []

    def __call__(self, workers: int) -> "Counting":
        return self

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        self.runs.append(args[0])
        return super().submit(fn, *args, **kwargs)


class TestKeptRuns:
    def test_are_not_carried_out_again(self, compare_here: Compare) -> None:
        first = compare_here()
        counting = Counting()
        again = compare_here(make_executor=counting)
        assert counting.runs == []
        assert (first.runs.carried_out, again.runs.carried_out) == (4, 0)
        assert again.cells == first.cells

    def test_that_were_lost_are_the_only_ones_carried_out(self, compare_here: Compare, tmp_path: Path) -> None:
        first = compare_here()
        next((tmp_path / "results").rglob("*-kd-seed1-*.json")).unlink()
        counting = Counting()
        again = compare_here(make_executor=counting)
        assert [(str(run.cell.method.method), run.seed) for run in counting.runs] == [("kd", 1)]
        assert without_seconds(again) == without_seconds(first)

    def test_are_added_to_by_a_larger_comparison(self, compare_here: Compare) -> None:
        compare_here(seeds=1)
        assert compare_here(methods=("kd", "rkd"), seeds=2).runs.carried_out == 4

    def test_of_another_teacher_are_not_used_and_neither_is_the_other_teacher(
        self, compare_here: Compare, data: DataConfig, run: RunConfig, student: StudentConfig
    ) -> None:
        before = compare_here()
        train_teacher(parse_spec("mlp-64"), data, TrainingConfig(epochs=6, seed=9, lr=0.003), run)
        after = compare_here()
        assert after.runs.carried_out == 4
        assert after.cells[1].runs[0].error_count == distill(student).error_count
        assert after.cells[1].runs[0].agreement != before.cells[1].runs[0].agreement


class Interrupted(Counting):
    """Ctrl-C in place of the third run."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        if len(self.runs) == 2:
            raise KeyboardInterrupt
        return super().submit(fn, *args, **kwargs)


class Deadly(Counting):
    """Its process dies, as if out of memory, whenever it carries out the default method with seed 1."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        run = args[0]
        if (run.cell.method, run.seed) != (MethodConfig(), 1):
            return super().submit(fn, *args, **kwargs)
        future: Future[object] = Future()
        future.set_exception(BrokenExecutor("died"))
        return future


class TestRunsThatDoNotEnd:
    def test_an_interrupt_says_what_is_kept_and_the_same_command_goes_on(self, compare_here: Compare) -> None:
        with pytest.raises(RunStoppedError, match="keeps 2 of 4 runs: repeat the command"):
            compare_here(make_executor=Interrupted())
        assert compare_here().runs.carried_out == 2

    def test_an_interrupt_of_runs_carried_out_anew_says_how_not_to_lose_them(self, compare_here: Compare) -> None:
        with pytest.raises(RunStoppedError, match="keeps 2 of 4 runs: repeat the command without --fresh to go on"):
            compare_here(fresh=True, make_executor=Interrupted())
        assert compare_here().runs.carried_out == 2

    def test_an_interrupt_promises_no_run_that_failed(
        self, compare_here: Compare, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(runs, "measure_quality", Mock(side_effect=MemoryError))
            with pytest.raises(RunStoppedError, match="keeps 0 of 4 runs"):
                compare_here(make_executor=Interrupted())
        assert compare_here().runs.carried_out == 4

    def test_a_process_that_dies_takes_no_other_run_down(self, compare_here: Compare) -> None:
        result = compare_here(make_executor=Deadly())
        assert [len(cell.runs) for cell in result.cells] == [2, 1]
        ((name, error),) = [(each.run, each.error) for each in result.failed]
        assert name == f"mlp-8 {MethodConfig()}, seed 1"
        assert "died, twice" in error

    def test_an_exception_is_the_outcome_of_its_run_alone(
        self, compare_here: Compare, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        measured = []

        def measure(*arguments: Any) -> Any:
            measured.append(1)
            if len(measured) == 2:
                raise MemoryError("no\nmore")
            return measure_quality(*arguments)

        monkeypatch.setattr(runs, "measure_quality", measure)
        result = compare_here()
        assert [len(cell.runs) for cell in result.cells] == [2, 1]
        assert [each.error for each in result.failed] == ["MemoryError: no more"]
        monkeypatch.undo()
        assert compare_here().runs.carried_out == 1

    def test_a_diverged_run_is_reported_and_not_kept(self, compare_here: Compare, tmp_path: Path) -> None:
        with pytest.raises(KdError, match=r"none of 4 runs came to an end; .* the loss became"):
            compare_here(training=TrainingConfig(epochs=1, lr=1e30))
        assert list((tmp_path / "results").rglob("*.json")) == []


class TestRefusals:
    @pytest.fixture
    def never(self) -> Callable[[int], InProcess]:
        """An executor that must not be asked for."""

        def make(workers: int) -> InProcess:
            pytest.fail("a run was carried out")

        return make

    def test_a_results_folder_that_cannot_be_written_is_found_before_the_first_run(
        self, compare_here: Compare, tmp_path: Path, never: Callable[[int], InProcess]
    ) -> None:
        (tmp_path / "results").write_text("a file")
        with pytest.raises(KdError, match=r"cannot write .*results"):
            compare_here(make_executor=never)

    def test_seeds_beyond_the_last_one_are_refused_before_the_first_run(
        self, compare_here: Compare, never: Callable[[int], InProcess]
    ) -> None:
        with pytest.raises(ConfigError, match="--seed 4294967296"):
            compare_here(training=TrainingConfig(epochs=1, seed=MAX_SEED), make_executor=never)

    def test_labels_that_a_method_needs_are_asked_for_before_the_first_run(
        self, compare_here: Compare, never: Callable[[int], InProcess]
    ) -> None:
        with pytest.raises(ConfigError, match="dkd needs the label of every image"):
            compare_here(methods=("kd", "dkd"), labels=LabelConfig(0.5, Transfer.all), make_executor=never)

    def test_a_foreign_member_of_an_ensemble_is_refused(self, compare_here: Compare) -> None:
        with pytest.raises(KdError, match="kd train-teacher --ensemble 2"):
            compare_here(teachers=TeacherConfig(ensemble=2))


def test_runs_side_by_side_find_what_runs_one_after_the_other_find(compare_here: Compare) -> None:
    side_by_side = compare_here(jobs=2, results="others")
    assert side_by_side.runs.side_by_side == 2
    assert without_seconds(side_by_side) == without_seconds(compare_here(jobs=1))


def test_a_saved_checkpoint_is_not_needed_where_teachers_are_given(
    data: DataConfig, tmp_path: Path, run: RunConfig
) -> None:
    path = tmp_path / "mine.pth"
    train_teacher(parse_spec("mlp-4"), data, ONE_EPOCH, run, OutputConfig(path))
    comparison = ComparisonConfig(("kd",), (MLP,), seeds=1, jobs=1, results_dir=tmp_path / "results")
    auto = replace(data, dataset="auto")
    result = compare(comparison, TeacherConfig((path,)), data=auto, training=ONE_EPOCH, run=run)
    assert (result.dataset, result.teachers) == ("digits", (str(path),))
