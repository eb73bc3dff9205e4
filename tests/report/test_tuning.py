"""The table, the CSV file and the plot of a study."""

import csv
from pathlib import Path

import pytest

from kd_cli.commands.results import RefusedCell
from kd_cli.evaluation.statistics import Difference
from kd_cli.report.as_json import as_plain
from kd_cli.report.tuning import draw_tuning, is_our_csv, print_tuning, write_csv
from tests.report.axes import axes_of
from tests.report.conftest import Printed
from tests.report.results import tuned_method, tuning_result


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


def rows(out: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines() if line.startswith("│")]


@pytest.mark.usefixtures("wide")
def test_rows_show_the_setting_and_both_accuracies_against_the_tuned_baseline(printed: Printed) -> None:
    baseline, kd = rows(printed(print_tuning, tuning_result()))
    assert baseline == ["labels", "lr 0.002", "97.25%", "98.20% ± 0.28", "", "", "(baseline)", "2", "12"]
    assert kd == [
        *("kd", "lr 0.002, T 2, alpha 0.25", "97.25%", "98.20% ± 0.28"),
        *("+0.20 [+0.08,+0.32]", "0.020", "better", "2", "12"),
    ]


@pytest.mark.parametrize(
    "note",
    [
        "Tuned mlp-32 on some-data: 2 trials each, 2 seeds, 3 epochs",
        "Validation: mean over 3 seeds, on 400 training images set aside. By it the setting was chosen out of 4",
        "4 trials and 4 repeats, 3 of them carried out now, trained for 20 of 24 epochs; 4 runs, 2 of them carried",
        "Teacher: models/teacher.safetensors (cnn-32)",
        "Settings: results/settings.json (kd compare --from-study)",
        "The same rows, one by one:\nkd distill --student mlp-32",
        "\nkd distill --student mlp-32 --method kd --lr 0.002\n",
        "adjusted for 1 difference in this table",
        "Left out: mlp-32 has no maps.",
    ],
)
def test_notes_say_what_was_done_and_how_to_repeat_it(printed: Printed, note: str) -> None:
    refused = (RefusedCell("mlp-32 at", "mlp-32 has no maps"),)
    assert note in printed(print_tuning, tuning_result(refused=refused))


@pytest.mark.parametrize("columns", [80, 90, 100, 120])
def test_no_number_is_cut_off(printed: Printed, monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    table = [line for line in printed(print_tuning, tuning_result()).splitlines() if line[:1] in "┏┃┡│├└"]
    assert {len(line) for line in table} == {max(map(len, table))}
    assert len(table[0]) <= columns
    text = "\n".join(table)
    assert all(whole in text for whole in ("97.25%", "98.20%", "[+0.08,+0.32]", "better"))


def test_json_has_every_trial() -> None:
    (trial, chosen) = as_plain(tuning_result())["rows"][1]["search"]
    assert trial == {
        "number": 0,
        "options": {"lr": 0.001, "temperature": 4.0, "alpha": 0.9},
        "state": "pruned",
        "accuracies": [0.9],
        "train_seconds": 3.1,
        "repeats": [],
    }
    assert chosen["repeats"] == [0.9725, 0.97]


class TestCsv:
    def test_has_a_line_for_each_method(self, tmp_path: Path) -> None:
        write_csv(tuning_result(), tmp_path / "table.csv")
        with (tmp_path / "table.csv").open() as file:
            labels, kd = csv.DictReader(file)
        assert (labels["method"], labels["lr"], labels["alpha"], labels["verdict"]) == ("labels", "0.002", "", "")
        assert (kd["alpha"], kd["difference"], kd["low"], kd["verdict"]) == ("0.25", "0.002", "0.0008", "better")
        assert (kd["trials"], kd["seconds"], kd["command"].split()[:2]) == ("2", "12.4", ["kd", "distill"])

    def test_a_difference_without_a_spread_has_no_interval(self, tmp_path: Path) -> None:
        undecided = Difference(0.01, None, None, None, "no difference shown")
        write_csv(tuning_result(tuned_method(), tuned_method("kd", difference=undecided)), tmp_path / "table.csv")
        with (tmp_path / "table.csv").open() as file:
            _, kd = csv.DictReader(file)
        assert (kd["difference"], kd["low"], kd["high"], kd["adjusted_p_value"]) == ("0.01", "", "", "")

    def test_is_known_again(self, tmp_path: Path) -> None:
        write_csv(tuning_result(), tmp_path / "table.csv")
        assert is_our_csv(tmp_path / "table.csv")
        (tmp_path / "other.csv").write_text("dataset,student,method,mine\n")
        assert not is_our_csv(tmp_path / "other.csv")


class TestPlot:
    @pytest.fixture(autouse=True)
    def _extra(self) -> None:
        pytest.importorskip("matplotlib", reason="plots need the extra 'plot'")

    def test_has_a_panel_for_each_option_and_one_for_the_cost(self) -> None:
        panels = axes_of(draw_tuning(tuning_result()))
        assert [axes.get_xlabel() for axes in panels] == ["lr", "T", "alpha", ""]
        assert [axes.get_xscale() for axes in panels] == ["log", "log", "linear", "linear"]

    def test_shows_every_trial_with_its_last_accuracy(self) -> None:
        lr, temperature, *_ = axes_of(draw_tuning(tuning_result()))
        shown = sorted((x, y) for line in lr.get_lines() for x, y in zip(*line.get_data(), strict=True))
        assert shown == [(0.001, 90.0)] * 2 + [(0.002, 97.5)] * 2
        assert sorted(x for line in temperature.get_lines() for x in line.get_xdata()) == [2.0, 4.0]

    def test_shows_what_a_trial_costs(self) -> None:
        costs = axes_of(draw_tuning(tuning_result()))[-1]
        assert [bar.get_height() for bar in costs.patches] == [pytest.approx(6.2)] * 2

    def test_of_the_baseline_alone_can_be_drawn(self) -> None:
        draw_tuning(tuning_result(tuned_method())).draw_without_rendering()
