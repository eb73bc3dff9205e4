"""Comparisons: what the statistics say, what is kept, and that one broken run harms no other."""

import csv
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from kd_cli import runs
from kd_cli.cli import main
from kd_cli.compare import compare_pairs
from kd_cli.context import Place
from kd_cli.grid import Cell, make_grid
from kd_cli.methods import FROM_LABELS, MethodName, choose
from kd_cli.run_archive import Archive, Conditions, Outcome, Run
from kd_cli.runs import Workshop
from kd_cli.settings import DatasetName, DeviceName, LabelBudget, TrainingSettings, parse_spec

MEASURES = {"accuracy": 0.9, "error_count": 50.0, "agreement": 0.9, "nll": 0.3, "ece": 0.01, "train_seconds": 1.0}
MLP, CNN = parse_spec("mlp-8"), parse_spec("cnn-4")
KD = choose(MethodName.kd, {})


class TestVerdicts:
    def test_the_interval_is_that_of_a_paired_t_test(self) -> None:
        pairs = [(0.95, 0.93), (0.94, 0.94), (0.96, 0.93), (0.95, 0.92)]
        expected = stats.ttest_rel(*np.array(pairs).T).confidence_interval(0.95)
        assert compare_pairs(pairs).interval == pytest.approx((expected.low, expected.high))

    @pytest.mark.parametrize(
        ("differences", "verdict"),
        [
            ([0.010, 0.012, 0.011], "better"),
            ([-0.010, -0.012, -0.011], "worse"),
            ([0.010, -0.012, 0.003], "no difference shown"),
            ([0.01], "no difference shown"),
            ([0.0, 0.0], "no difference shown"),
            ([0.01, 0.01], "better"),
        ],
    )
    def test_follow_from_the_interval(self, differences: list[float], verdict: str) -> None:
        # Halves of a power of two are exact, so that equal differences stay equal.
        pairs = [(0.5 + round(d * 2**20) / 2**20, 0.5) for d in differences]
        assert compare_pairs(pairs).verdict == verdict

    @given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=8))
    def test_swapping_method_and_baseline_swaps_better_and_worse(self, pairs: list[tuple[float, float]]) -> None:
        opposite = {"better": "worse", "worse": "better"}
        there, back = compare_pairs(pairs), compare_pairs([(b, a) for a, b in pairs])
        assert back.verdict == opposite.get(there.verdict, there.verdict)

    def test_pairing_sees_what_the_spread_between_seeds_hides(self) -> None:
        baseline = [0.90, 0.93, 0.96]
        assert (
            compare_pairs([(b + gain, b) for b, gain in zip(baseline, [0.004, 0.005, 0.006], strict=True)]).verdict
            == "better"
        )


class TestGrids:
    def test_every_student_has_its_baseline_first(self) -> None:
        cells = make_grid([MethodName.kd], [MLP, CNN], [], []).cells
        assert cells == (Cell(MLP, FROM_LABELS), Cell(MLP, KD), Cell(CNN, FROM_LABELS), Cell(CNN, KD))

    def test_temperatures_multiply_only_methods_that_have_one(self) -> None:
        cells = make_grid([MethodName.kd, MethodName.rkd], [MLP], [1.0, 4.0], []).cells
        assert [cell.choice.name.value for cell in cells] == ["labels", "kd", "kd", "rkd"]

    def test_alpha_0_is_the_baseline_and_not_done_twice(self) -> None:
        cells = make_grid([MethodName.kd], [MLP], [], [0.0, 0.5]).cells
        assert [cell.choice for cell in cells] == [FROM_LABELS, choose(MethodName.kd, {"alpha": 0.5})]

    def test_impossible_pairs_are_left_out_with_the_reason(self) -> None:
        grid = make_grid([MethodName.at], [MLP, CNN], [], [])
        assert [str(cell.student) for cell in grid.cells] == ["mlp-8", "cnn-4", "cnn-4"]
        assert "cnn-8" in grid.refused[0][1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A place with a small teacher of the bundled digits."""
    folder = tmp_path_factory.mktemp("kd")
    place = ["--dataset", "digits", "--data-dir", str(folder / "data"), "--models-dir", str(folder / "models")]
    assert main(["train-teacher", "--arch", "mlp-16", "--epochs", "2", *place]) == 0
    return folder


@pytest.fixture
def conditions(folder: Path) -> Conditions:
    place = Place(DatasetName.digits, folder / "data", folder / "models", DeviceName.cpu)
    teacher = folder / "models" / "digits" / "teacher.safetensors"
    return Conditions(place, TrainingSettings(epochs=1), LabelBudget(), (teacher,))


class TestKeptRuns:
    def test_come_back_as_they_were(self, tmp_path: Path, conditions: Conditions) -> None:
        archive, outcome = Archive(tmp_path, conditions), Outcome(Run(Cell(MLP, KD), 3), MEASURES)
        archive.keep(outcome)
        assert archive.find(outcome.run) == outcome

    @pytest.mark.parametrize(
        "other",
        [
            Run(Cell(MLP, KD), 4),
            Run(Cell(CNN, KD), 3),
            Run(Cell(MLP, choose(MethodName.kd, {"temperature": 2.0})), 3),
            Run(Cell(MLP, FROM_LABELS), 3),
        ],
        ids=str,
    )
    def test_do_not_stand_for_another_run(self, tmp_path: Path, conditions: Conditions, other: Run) -> None:
        archive = Archive(tmp_path, conditions)
        archive.keep(Outcome(Run(Cell(MLP, KD), 3), MEASURES))
        assert archive.find(other) is None

    @pytest.mark.parametrize(
        "change", [{"settings": TrainingSettings(epochs=2)}, {"budget": LabelBudget(0.5)}, {"teachers": ()}], ids=str
    )
    def test_do_not_stand_for_other_conditions(
        self, tmp_path: Path, conditions: Conditions, change: dict[str, Any]
    ) -> None:
        run = Run(Cell(MLP, KD), 3)
        Archive(tmp_path, conditions).keep(Outcome(run, MEASURES))
        assert Archive(tmp_path, replace(conditions, **change)).find(run) is None

    def test_that_were_cut_off_are_done_again(self, tmp_path: Path, conditions: Conditions) -> None:
        archive, run = Archive(tmp_path, conditions), Run(Cell(MLP, KD), 3)
        archive.keep(Outcome(run, MEASURES))
        (path,) = tmp_path.rglob("*.json")
        path.write_bytes(path.read_bytes()[:40])
        assert archive.find(run) is None


class TestBrokenRuns:
    def test_an_exception_is_the_outcome_of_its_run_alone(
        self, conditions: Conditions, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        workshop = Workshop(conditions)
        monkeypatch.setattr(workshop, "_train", lambda run: 1 / 0)
        outcome = workshop.carry_out(Run(Cell(MLP, KD), 0))
        assert outcome.error == "ZeroDivisionError: division by zero"

    def test_a_diverged_run_is_reported(self, conditions: Conditions) -> None:
        workshop = Workshop(replace(conditions, settings=TrainingSettings(epochs=1, lr=1e18)))
        outcome = workshop.carry_out(Run(Cell(MLP, choose(MethodName.mse, {})), 0))
        assert outcome.error is not None
        assert "--lr" in outcome.error

    def test_a_process_that_dies_takes_no_other_run_down(self, conditions: Conditions) -> None:
        cells = [Cell(parse_spec(DEADLY), FROM_LABELS), Cell(CNN, FROM_LABELS)]
        everything = [Run(cell, 0) for cell in cells]
        outcomes = {
            str(each.run.cell.student): each.error for each in carried_out_with_a_killer(conditions, everything)
        }
        assert outcomes["cnn-4"] is None
        assert "died" in (outcomes[DEADLY] or "")


DEADLY = "mlp-9"


def die_or_carry_out(run: Run) -> Outcome:
    """In the place of a worker's own function: the operating system kills it during one of the runs."""
    if str(run.cell.student) == DEADLY:
        os._exit(9)
    return runs._workshop.carry_out(run)


def carried_out_with_a_killer(conditions: Conditions, everything: list[Run]) -> Iterator[Outcome]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "_carry_out_in_process", die_or_carry_out)
        yield from runs.carry_out(conditions, everything, jobs=2)


Compare = Callable[..., tuple[int, str, str]]


@pytest.fixture
def compare(folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Compare:
    def run(*arguments: str) -> tuple[int, str, str]:
        place = ["--dataset", "digits", "--data-dir", str(folder / "data"), "--models-dir", str(folder / "models")]
        own = ["--results-dir", str(tmp_path / "results"), "--epochs", "1", "--device", "cpu", "--jobs", "1"]
        code = main(["compare", *place, *own, *arguments])
        return code, *capfd.readouterr()

    return run


SMALL = ("--methods", "kd,rkd", "--students", "mlp-8", "--seeds", "2")


class TestTheCommand:
    def test_reports_every_cell_against_its_baseline(self, compare: Compare) -> None:
        code, out, _ = compare(*SMALL, "--json")
        cells = json.loads(out)["cells"]
        assert code == 0
        assert [cell["method"] for cell in cells] == ["labels", "kd", "rkd"]
        assert [len(cell["runs"]) for cell in cells] == [2, 2, 2]
        kd, labels = (np.mean([run["accuracy"] for run in cells[i]["runs"]]) for i in (1, 0))
        assert cells[1]["difference"]["mean"] == pytest.approx(kd - labels)

    def test_goes_on_where_it_stopped(self, compare: Compare, tmp_path: Path) -> None:
        first = json.loads(compare(*SMALL, "--json")[1])
        lost = sorted((tmp_path / "results").rglob("*-rkd-*.json"))[0]
        lost.unlink()
        again = json.loads(compare(*SMALL, "--json")[1])
        assert first["runs"]["carried_out"] == 6
        assert again["runs"]["carried_out"] == 1
        for cell, other in zip(first["cells"], again["cells"], strict=True):
            assert [run["accuracy"] for run in cell["runs"]] == [run["accuracy"] for run in other["runs"]]

    def test_interrupt_says_in_one_line_what_is_kept_and_how_to_go_on(
        self, compare: Compare, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        train = Mock(side_effect=[{"accuracy": 0.5, "error_count": 250.0}] * 2 + [KeyboardInterrupt])
        monkeypatch.setattr(runs.Workshop, "_train", train)
        code, _, stderr = compare(*SMALL)
        assert (code, stderr.count("\n")) == (130, 1)
        assert "keeps 2 of 6 runs: repeat the command" in stderr

    def test_finds_the_same_side_by_side_as_one_after_the_other(self, compare: Compare, tmp_path: Path) -> None:
        def accuracies(*arguments: str) -> list[float]:
            cells = json.loads(compare("--students", "mlp-8", "--seeds", "2", "--json", *arguments)[1])["cells"]
            return [run["accuracy"] for cell in cells for run in cell["runs"]]

        alone = accuracies()
        assert accuracies("--jobs", "2", "--results-dir", str(tmp_path / "others")) == alone

    def test_writes_one_line_for_each_run(self, compare: Compare, tmp_path: Path) -> None:
        compare(*SMALL, "--csv", str(tmp_path / "runs.csv"))
        with open(tmp_path / "runs.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        assert [(row["method"], row["seed"]) for row in rows] == [
            (method, seed) for method in ("labels", "kd", "rkd") for seed in ("0", "1")
        ]

    @pytest.mark.parametrize("kind", [".png", ".svg", ".pdf"])
    def test_draws_a_picture(self, compare: Compare, tmp_path: Path, kind: str) -> None:
        pytest.importorskip("matplotlib")
        path = tmp_path / f"picture{kind}"
        assert compare("--students", "mlp-4,mlp-8", "--seeds", "1", "--plot", str(path))[0] == 0
        magic = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}
        assert path.read_bytes().startswith(magic[kind])

    def test_a_table_names_data_device_and_teacher(self, compare: Compare) -> None:
        _, out, _ = compare(*SMALL)
        for word in ("digits", "cpu", "teacher.safetensors", "labels", "rkd"):
            assert word in out

    def test_reports_a_broken_run_and_counts_the_rest(self, compare: Compare, monkeypatch: pytest.MonkeyPatch) -> None:
        train = Workshop._train

        def break_one(self: Workshop, run: Run) -> dict[str, float]:
            if run == Run(Cell(MLP, KD), 1):
                raise MemoryError("no more")
            return train(self, run)

        monkeypatch.setattr(Workshop, "_train", break_one)
        code, out, error = compare("--students", "mlp-8", "--seeds", "2", "--json")
        result = json.loads(out)
        assert code == 1
        assert [len(cell["runs"]) for cell in result["cells"]] == [2, 1]
        assert [each["error"] for each in result["failed"]] == ["MemoryError: no more"]
        assert "seed 1: MemoryError: no more" in error

    def test_without_a_single_finished_run_is_one_line(self, compare: Compare) -> None:
        code, out, error = compare("--students", "mlp-8", "--seeds", "1", "--lr", "1e30")
        assert (code, out) == (1, "")
        assert "none of 2 runs" in error

    @pytest.mark.parametrize(
        ("arguments", "code", "message"),
        [
            (["--methods", "nonsense"], 2, "unknown method 'nonsense'"),
            (["--methods", ""], 2, "nothing to compare"),
            (["--students", ""], 2, "nothing to compare"),
            (["--students", "cnn"], 2, "unknown architecture"),
            (["--methods", "labels"], 2, "nothing to compare with the baseline"),
            (["--methods", "at"], 2, "cnn-8"),
            (["--methods", "rkd", "--temperatures", "4"], 2, "none of --methods has a temperature"),
            (["--temperatures", "4,0"], 2, "not a positive number"),
            (["--alphas", "2"], 2, "not between 0 and 1"),
            (["--seeds", "0"], 2, "seeds"),
            (["--plot", "picture.xyz"], 1, "ends in .png"),
        ],
    )
    def test_what_cannot_be_compared_is_one_line(
        self, compare: Compare, arguments: list[str], code: int, message: str
    ) -> None:
        returned, out, error = compare(*arguments)
        assert (returned, out) == (code, "")
        assert message in error
        assert error.count("\n") == 1


def test_a_kept_folder_that_cannot_be_written_is_one_line(compare: Compare, tmp_path: Path) -> None:
    (tmp_path / "results").write_text("a file")
    code, _, error = compare(*SMALL)
    assert code == 1
    assert error.splitlines()[-1].startswith("kd: cannot write")


def test_no_teacher_names_the_command_that_trains_one(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = ["--dataset", "digits", "--data-dir", str(folder / "data"), "--models-dir", str(tmp_path)]
    assert main(["compare", *place, "--ensemble", "2"]) == 1
    assert "kd train-teacher --ensemble 2" in capsys.readouterr().err
