"""The table and the CSV file of a comparison."""

import csv
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kd_cli.commands.results import FailedRun, RefusedCell
from kd_cli.config import KdError
from kd_cli.evaluation.statistics import BETTER, UNDECIDED, WORSE, Difference
from kd_cli.report.comparison import comparison_title, print_comparison, write_csv
from tests.report import results
from tests.report.conftest import Printed
from tests.report.results import cell_result, comparison_result

WIDE = 200
MANY = comparison_result(
    [
        cell_result(method, student=student, difference=difference)
        for student in ("mlp-32", "mlp-128")
        for method, difference in (
            ("labels", None),
            ("kd", results.BETTER),
            ("logit-std", results.WORSE),
            ("rkd", results.UNDECIDED),
        )
    ]
)


def rows(out: str) -> list[dict[str, str]]:
    """The rows of the table by the names of its columns, where no cell is folded."""
    header = next(line for line in out.splitlines() if line.startswith("┃"))
    names = [cell.strip() for cell in header.split("┃")[1:-1]]
    lines = [line.split("│")[1:-1] for line in out.splitlines() if line.startswith("│")]
    return [dict(zip(names, (cell.strip() for cell in line), strict=True)) for line in lines]


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(WIDE))


@pytest.mark.usefixtures("wide")
class TestRows:
    def test_show_each_cell_against_its_baseline(self, printed: Printed) -> None:
        baseline, kd = rows(printed(print_comparison, comparison_result()))
        assert baseline["Student"] == "mlp-128"
        assert (baseline["Trained with"], baseline["Verdict"]) == ("labels", "(baseline)")
        assert (baseline["Points over labels (95 %)"], baseline["p (Holm)"]) == ("", "")
        assert kd == {
            "Student": "",
            "Trained with": "kd",
            "Accuracy": "98.40% ± 0.14",
            "Errors": "16.0",
            "ECE": "0.0125",
            "Agreement": "97.00%",
            "Points over labels (95 %)": "+0.20 [+0.08,+0.32]",
            "p (Holm)": "0.020",
            "Verdict": BETTER,
        }

    @pytest.mark.parametrize(
        ("difference", "p", "verdict"),
        [
            # The verdict is the statistics' own, whatever interval and p value look like.
            (Difference(0.01, (0.005, 0.015), 0.01, 0.2, UNDECIDED), "0.200", UNDECIDED),
            (Difference(-0.01, (-0.015, -0.005), 0.0001, 0.0004, WORSE), "<0.001", WORSE),
            (Difference(0.01, None, None, None, UNDECIDED), "-", UNDECIDED),
        ],
    )
    def test_show_the_adjusted_p_value_and_the_verdict(
        self, printed: Printed, difference: Difference, p: str, verdict: str
    ) -> None:
        result = comparison_result([cell_result("labels"), cell_result("rkd", difference=difference)])
        row = rows(printed(print_comparison, result))[1]
        assert (row["p (Holm)"], row["Verdict"]) == (p, verdict)

    def test_a_single_run_has_no_spread(self, printed: Printed) -> None:
        difference = Difference(0.01, None, None, None, UNDECIDED)
        result = comparison_result(
            [cell_result("labels", [0.98]), cell_result("kd", [0.99], difference=difference)], seeds=(0,)
        )
        row = rows(printed(print_comparison, result))[1]
        assert (row["Accuracy"], row["Points over labels (95 %)"]) == ("99.00%", "+1.00")

    def test_options_tell_variants_of_a_method_apart(self, printed: Printed) -> None:
        other = cell_result("kd", options={"temperature": 2.0, "alpha": 0.9})
        result = comparison_result([cell_result("labels"), cell_result("kd"), other, cell_result("rkd")])
        names = [row["Trained with"] for row in rows(printed(print_comparison, result))]
        assert names == ["labels", "kd (T 4, alpha 0.9)", "kd (T 2, alpha 0.9)", "rkd"]

    def test_missing_runs_are_named(self, printed: Printed) -> None:
        result = comparison_result([cell_result("labels"), cell_result("kd", [0.98])])
        assert rows(printed(print_comparison, result))[1]["Trained with"] == "kd, 1 of 2 seeds"

    def test_the_student_is_named_once(self, printed: Printed) -> None:
        students = [row["Student"] for row in rows(printed(print_comparison, MANY))]
        assert students == ["mlp-32", "", "", "", "mlp-128", "", "", ""]


class TestNotes:
    def test_say_what_interval_and_verdict_are_of(self, printed: Printed) -> None:
        undecided = Difference(0.01, None, None, None, UNDECIDED)
        cells = [*MANY.cells, cell_result("sp", difference=undecided)]
        out = printed(print_comparison, comparison_result(cells))
        assert "interval (Student t) of each difference alone" in out
        assert "adjusted for 6 differences in this table (Holm 1979)" in out  # those that have a p value
        assert "A single seed, or differences that are all equal, give no p value and decide nothing." in out

    @pytest.mark.parametrize(
        ("changes", "note"),
        [
            ({}, "Options: kd (T 4, alpha 0.9)."),
            ({}, "Teacher: models/teacher.safetensors (cnn-32)"),
            ({}, "4 runs, 3 of them carried out now, 2 at a time, 0 failed; kept in results"),
            ({"failed": (FailedRun("mlp-8 kd seed 0", "no memory"),)}, "2 at a time, 1 failed; kept in results"),
            ({"refused": (RefusedCell("mlp-8 at", "mlp-8 has no maps"),)}, "Left out: mlp-8 has no maps."),
        ],
    )
    def test_say_what_was_compared(self, printed: Printed, changes: dict[str, Any], note: str) -> None:
        assert note in printed(print_comparison, comparison_result(**changes))

    def test_name_runs_that_learnt_nothing(self, printed: Printed) -> None:
        whole, broken = cell_result("labels"), cell_result("kd")
        runs = (broken.runs[0], replace(broken.runs[1], fault="no better than chance: use a larger --lr"))
        out = printed(print_comparison, comparison_result([whole, replace(broken, runs=runs)]))
        assert "mlp-128 with kd: 1 of 2 runs learnt nothing, and the means contain them." in out
        assert "The first one: no better than chance: use a larger --lr." in out
        assert "mlp-128 with labels" not in out

    def test_are_not_folded(self, printed: Printed, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("COLUMNS", "40")
        path = f"{'folder/' * 10}teacher.safetensors"
        result = comparison_result(teachers=(path,), teacher_architectures=("cnn-32",))
        assert f"Teacher: {path} (cnn-32)" in printed(print_comparison, result).splitlines()


class TestWidth:
    @pytest.mark.parametrize("columns", [80, 90, 100, 110, 120, 140, 200])
    def test_no_number_and_no_verdict_is_cut_off(
        self, printed: Printed, monkeypatch: pytest.MonkeyPatch, columns: int
    ) -> None:
        monkeypatch.setenv("COLUMNS", str(columns))
        table = [line for line in printed(print_comparison, MANY).splitlines() if line[:1] in "┏┃┡│├└"]
        assert {len(line) for line in table} == {max(map(len, table))}
        assert len(table[0]) <= columns
        text = "\n".join(table)
        for whole in ("98.20%", "± 0.28", "[+0.08,+0.32]", "[-11.00,-9.00]", "0.020", "<0.001", "logit-std", "worse"):
            assert text.count(whole) >= 2
        assert "…" not in text

    @pytest.mark.parametrize(
        ("columns", "dropped"),
        [(None, set()), ("100", {"Agreement"}), ("90", {"Agreement", "ECE"}), ("80", {"Agreement", "ECE", "Errors"})],
    )
    def test_agreement_ece_and_errors_go_first_where_there_is_no_room(
        self, printed: Printed, monkeypatch: pytest.MonkeyPatch, columns: str | None, dropped: set[str]
    ) -> None:
        if columns:
            monkeypatch.setenv("COLUMNS", columns)
        table, notes = printed(print_comparison, MANY).split("Accuracy: mean")
        assert {name for name in ("Accuracy", "Errors", "ECE", "Agreement", "Verdict") if name not in table} == dropped
        found = re.search("No room for (.+): widen the terminal", notes)
        assert set(found[1].split(", ") if found else ()) == dropped


def test_the_title_says_what_was_compared_and_for_how_long() -> None:
    assert comparison_title(comparison_result()) == "Did it help? some-data, 2 seeds, 5 epochs"
    assert comparison_title(comparison_result(seeds=(0,), epochs=1)) == "Did it help? some-data, 1 seed, 1 epoch"


class TestCsv:
    def test_has_a_line_for_each_run(self, tmp_path: Path) -> None:
        write_csv(MANY, tmp_path / "runs.csv")
        with open(tmp_path / "runs.csv", newline="") as file:
            lines = list(csv.DictReader(file))
        expected = [(cell.student, cell.method, run) for cell in MANY.cells for run in cell.runs]
        assert len(lines) == len(expected)
        for line, (student, method, run) in zip(lines, expected, strict=True):
            assert (line["dataset"], line["student"], line["method"]) == ("some-data", student, method)
            assert (int(line["seed"]), float(line["accuracy"])) == (run.seed, run.accuracy)
            assert (line["temperature"], line["alpha"]) == (("4.0", "0.9") if method == "kd" else ("", ""))

    def test_that_cannot_be_written_is_an_expected_failure(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("no folder")
        with pytest.raises(KdError, match="cannot write"):
            write_csv(MANY, tmp_path / "file" / "runs.csv")
