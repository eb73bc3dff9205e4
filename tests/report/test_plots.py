"""Pictures of results: they show what ``--json`` prints, and what cannot be drawn is refused before the work."""

import io
import json
import subprocess
import sys
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import pytest

from kd_cli import plots, plots_quality
from kd_cli.cli import main
from kd_cli.data import CLASSES
from kd_cli.report import Result
from kd_cli.settings import Cost, DatasetName
from tests.conftest import CommandLine

if TYPE_CHECKING:
    from matplotlib.figure import Figure

pytest.importorskip("matplotlib", reason="pictures need the extra 'plot'")

DIGITS = ("--dataset", "digits")
SHORT = (*DIGITS, "--epochs", "2")
COMMANDS: dict[str, tuple[str, ...]] = {
    "train-teacher": ("train-teacher", *SHORT, "--arch", "cnn-2"),
    "distill": ("distill", *SHORT, "--student", "mlp-8"),
    "evaluate": ("evaluate", *DIGITS),
    "benchmark": ("benchmark", *DIGITS),
    "compare": ("compare", *SHORT, "--students", "mlp-4,mlp-8", "--seeds", "2", "--jobs", "1"),
}
MAGIC = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the commands work, and leave their pictures."""
    return tmp_path_factory.mktemp("results")


@pytest.fixture(scope="module")
def results(folder: Path) -> dict[str, Result]:
    """What each command prints for a program that reads it."""
    found: dict[str, Result] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, command in COMMANDS.items():
            out = io.StringIO()
            with redirect_stdout(out):
                assert main([*command, "--json", "--plot", f"{name}.svg"]) == 0
            found[name] = json.loads(out.getvalue())
    return found


def draw(name: str, result: Result) -> "Figure":
    if name in ("train-teacher", "distill"):
        return plots.draw_training(result)
    if name == "evaluate":
        return plots_quality.draw_evaluation(result)
    return plots.draw_benchmark(result) if name == "benchmark" else plots.draw_comparison(result)


def axes_of(figure: "Figure") -> list[Any]:
    """The figure's axes, untyped: what they hold depends on what was drawn."""
    return figure.axes


def points(axes: Any, number: int = 0) -> tuple[list[float], list[float]]:
    x, y = axes.get_lines()[number].get_data()
    return list(x), list(y)


def percent(shares: list[float]) -> list[float]:
    return [100 * share for share in shares]


@pytest.mark.parametrize("name", COMMANDS)
class TestEveryPicture:
    def test_can_be_drawn_from_the_printed_json_alone(
        self, results: dict[str, Result], folder: Path, tmp_path: Path, name: str
    ) -> None:
        plots.save(tmp_path / "again.svg", partial(draw, name), results[name])
        assert (tmp_path / "again.svg").read_bytes() == (folder / f"{name}.svg").read_bytes()

    def test_names_the_data_set_and_the_device(self, results: dict[str, Result], name: str) -> None:
        title = draw(name, results[name]).get_suptitle()
        assert "digits" in title
        assert results[name]["device_name"] in title

    def test_gives_the_unit_of_every_axis(self, results: dict[str, Result], name: str) -> None:
        units = ("(%)", "(ms)", "(nats)", "(MACs)", "(count)", "(class)", "(passes over the training pictures)")
        figure = draw(name, results[name])
        labels = [label for axes in axes_of(figure) for label in (axes.get_xlabel(), axes.get_ylabel()) if label]
        assert labels
        assert [label for label in labels if not any(unit in label for unit in units)] == []

    def test_tells_lines_apart_without_colour(self, results: dict[str, Result], name: str) -> None:
        for axes in axes_of(draw(name, results[name])):
            handles, _ = axes.get_legend_handles_labels()
            lines = [handle[0] if isinstance(handle, tuple) else handle for handle in handles]
            looks = [(line.get_marker(), line.get_linestyle()) for line in lines]
            assert len(set(looks)) == len(looks)


class TestTraining:
    @pytest.mark.parametrize("name", ["train-teacher", "distill"])
    def test_shows_loss_and_accuracy_of_every_epoch(self, results: dict[str, Result], name: str) -> None:
        history = results[name]["history"]
        loss, accuracy = axes_of(plots.draw_training(results[name]))
        assert points(loss) == ([1, 2], [epoch["loss"] for epoch in history])
        assert points(accuracy) == ([1, 2], percent([epoch["accuracy"] for epoch in history]))

    def test_shows_every_member_of_an_ensemble(self, results: dict[str, Result]) -> None:
        member = results["train-teacher"]
        members = [member | {"seed": seed} for seed in range(3)]
        for axes in axes_of(plots.draw_training(member | {"members": members})):
            assert axes.get_legend_handles_labels()[1] == ["seed 0", "seed 1", "seed 2"]

    def test_gives_a_loss_without_unit_none(self, results: dict[str, Result]) -> None:
        loss = axes_of(plots.draw_training(results["distill"] | {"method": "rkd"}))[0]
        assert "rkd (no unit)" in loss.get_ylabel()


class TestEvaluation:
    def test_writes_every_count_into_the_confusion_matrix(self, results: dict[str, Result]) -> None:
        models = results["evaluate"]["models"]
        for axes, model in zip(axes_of(plots_quality.draw_evaluation(results["evaluate"])), models, strict=False):
            written = {text.get_position(): int(text.get_text().replace(",", "")) for text in axes.texts}
            expected = {
                (j, i): count for i, row in enumerate(model["confusion"]) for j, count in enumerate(row) if count
            }
            assert written == expected

    def test_shades_errors_alone_and_by_one_scale_for_all_networks(self, results: dict[str, Result]) -> None:
        matrices = [axes.get_images()[0] for axes in axes_of(plots_quality.draw_evaluation(results["evaluate"]))[:2]]
        assert matrices[0].get_clim() == matrices[1].get_clim()
        for matrix, model in zip(matrices, results["evaluate"]["models"], strict=True):
            shades = matrix.get_array()
            assert shades.diagonal().tolist() == [0] * 10
            assert int(shades.sum()) == model["error_count"]

    def test_shows_the_bins_that_have_pictures_and_how_many(self, results: dict[str, Result]) -> None:
        figure = plots_quality.draw_evaluation(results["evaluate"])
        for number, model in enumerate(results["evaluate"]["models"]):
            bins = [each for each in model["calibration"] if each["count"]]
            reliability, counts = axes_of(figure)[2 + number], axes_of(figure)[4 + number]
            confidence, right = points(reliability, 1)
            assert confidence == percent([each["confidence"] for each in bins])
            assert right == percent([each["accuracy"] for each in bins])
            assert [bar.get_height() for bar in counts.patches] == [each["count"] for each in bins]
            assert [bar.get_hatch() for bar in counts.patches] == ["///"] * len(bins)

    @pytest.mark.parametrize("dataset", [DatasetName.fashion_mnist, DatasetName.kmnist])
    def test_names_classes_where_the_font_has_their_letters(
        self, results: dict[str, Result], dataset: DatasetName, recwarn: pytest.WarningsRecorder
    ) -> None:
        figure = plots_quality.draw_evaluation(results["evaluate"] | {"classes": list(CLASSES[dataset])})
        figure.draw_without_rendering()
        labels = tuple(label.get_text() for label in axes_of(figure)[0].get_yticklabels())
        assert labels in (CLASSES[dataset], CLASSES[DatasetName.mnist])
        assert not recwarn.list

    def test_of_a_perfect_network_alone_can_be_drawn(self, results: dict[str, Result]) -> None:
        perfect: dict[str, Any] = results["evaluate"]["models"][0] | {
            "confusion": [[50 if i == j else 0 for j in range(10)] for i in range(10)],
            "calibration": [{"low": 14 / 15, "high": 1.0, "count": 500, "confidence": 1.0, "accuracy": 1.0}],
        }
        plots_quality.draw_evaluation(results["evaluate"] | {"models": [perfect]}).draw_without_rendering()


class TestBenchmark:
    def test_shows_accuracy_against_both_costs_side_by_side(self, results: dict[str, Result]) -> None:
        latency, macs = axes_of(plots.draw_benchmark(results["benchmark"]))
        for container, shown, model in zip(
            latency.containers, macs.get_lines(), results["benchmark"]["models"], strict=True
        ):
            accuracy, p50 = 100 * model["accuracy"], model["latency_ms"]["p50"]
            assert container[0].get_xydata().tolist() == [[p50, accuracy]]
            (bar,) = container[2][0].get_segments()
            assert bar[:, 0].tolist() == pytest.approx([p50, model["latency_ms"]["p95"]])
            assert shown.get_xydata().tolist() == [[model["macs"], accuracy]]

    def test_starts_costs_at_zero(self, results: dict[str, Result]) -> None:
        assert [axes.get_xlim()[0] for axes in axes_of(plots.draw_benchmark(results["benchmark"]))] == [0, 0]

    def test_names_parameters_beside_the_macs(self, results: dict[str, Result]) -> None:
        (legend,) = plots.draw_benchmark(results["benchmark"]).legends
        for text, model in zip(legend.get_texts(), results["benchmark"]["models"], strict=True):
            assert f"{model['parameters']:,} parameters" in text.get_text()


class TestComparison:
    def test_shows_means_and_standard_deviations(self, results: dict[str, Result]) -> None:
        cells = results["compare"]["cells"]
        (axes,) = axes_of(plots.draw_comparison(results["compare"]))
        for container, method in zip(axes.containers, ("labels", "kd"), strict=True):
            own = [cell for cell in cells if cell["method"] == method]
            assert container[0].get_ydata().tolist() == percent([cell["mean"]["accuracy"] for cell in own])
            ends = [segment[:, 1].tolist() for segment in container[2][0].get_segments()]
            for (low, high), cell in zip(ends, own, strict=True):
                assert high - low == pytest.approx(200 * cell["std"]["accuracy"])

    @pytest.mark.parametrize("cost", list(Cost))
    def test_keeps_methods_near_the_cost_of_their_student(self, results: dict[str, Result], cost: Cost) -> None:
        cells = results["compare"]["cells"]
        (axes,) = axes_of(plots.draw_comparison(results["compare"], cost))
        costs = sorted({cell[cost.value] for cell in cells})
        assert axes.get_xticks().tolist() == costs
        for container in axes.containers:
            for x, own in zip(container[0].get_xdata(), costs, strict=True):
                assert min(costs, key=lambda each: abs(each - x)) == own

    def test_one_run_of_one_student_can_be_drawn(self, results: dict[str, Result]) -> None:
        cell = results["compare"]["cells"][0] | {"std": {"accuracy": None}}
        plots.draw_comparison(results["compare"] | {"cells": [cell]}).draw_without_rendering()

    def test_students_of_nearly_the_same_cost_keep_their_names(self, results: dict[str, Result]) -> None:
        cells = results["compare"]["cells"]
        close = [
            cell | {"student": name, "macs": macs}
            for cell, name, macs in zip(
                cells, ("mlp-8", "cnn-1", "mlp-9", "cnn-2"), (1000, 1010, 1010, 9000), strict=True
            )
        ]
        (axes,) = axes_of(plots.draw_comparison(results["compare"] | {"cells": close}))
        labels = [label.get_text() for label in axes.get_xticklabels()]
        assert labels == ["1,000\nmlp-8", "\n\n1,010\ncnn-1, mlp-9", "9,000\ncnn-2"]


@pytest.mark.parametrize("ending", [".png", ".svg", ".pdf", ".PNG"])
def test_the_ending_decides_the_format(results: dict[str, Result], tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"picture{ending}"
    plots.save(path, plots.draw_training, results["distill"])
    assert path.read_bytes().startswith(MAGIC[ending.lower()])
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("ending", MAGIC)
def test_the_same_result_gives_the_same_bytes(results: dict[str, Result], tmp_path: Path, ending: str) -> None:
    first, second = (tmp_path / f"{name}{ending}" for name in ("first", "second"))
    for path in (first, second):
        plots.save(path, plots.draw_benchmark, results["benchmark"])
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("picture.xyz", "ends in .png, .svg, .pdf"),
        ("picture", "ends in .png, .svg, .pdf"),
        ("file/picture.png", "cannot write file/picture.png"),
        ("folder.png", "it is a folder"),
    ],
)
def test_what_cannot_be_drawn_is_refused_before_the_work(
    kd: CommandLine, name: str, target: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kd_cli.data.load", Mock(side_effect=AssertionError("the work began")))
    Path("file").write_text("no folder")
    Path("folder.png").mkdir()
    code, out, error = kd(*COMMANDS[name], "--plot", target)
    assert (code, out, error.count("\n")) == (1, "", 1)
    assert message in error


@pytest.mark.parametrize("name", COMMANDS)
def test_missing_matplotlib_is_named_before_the_work(
    kd: CommandLine, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kd_cli.data.load", Mock(side_effect=AssertionError("the work began")))
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    code, out, error = kd(*COMMANDS[name], "--plot", "picture.png")
    assert (code, out) == (1, "")
    assert error == "kd: --plot needs matplotlib: pip install 'kd-cli[plot]'\n"
    assert not Path("picture.png").exists()


def test_a_picture_that_cannot_be_written_in_the_end_is_one_line_after_the_result(
    kd: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail = Mock(side_effect=OSError(28, "No space left on device"))
    Path("old.png").write_bytes(b"old")
    monkeypatch.setattr("os.replace", fail)
    code, out, error = kd("evaluate", *DIGITS, "--plot", "old.png")
    assert code == 1
    assert "Quality on digits" in out
    assert error == "kd: cannot write old.png: No space left on device; choose another place or free some space\n"
    assert Path("old.png").read_bytes() == b"old"


def test_matplotlib_is_imported_only_for_a_picture_and_pyplot_never(tmp_path: Path) -> None:
    program = (
        "import sys; from kd_cli.cli import main; command = ['evaluate', '--dataset', 'digits'];"
        "assert main(command) == 0; assert 'matplotlib' not in sys.modules;"
        "assert main([*command, '--plot', 'picture.png']) == 0; assert 'matplotlib.pyplot' not in sys.modules"
    )
    run = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
