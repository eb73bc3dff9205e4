"""What holds for every plot: it can be read without colour, has units, and cannot fail after the work."""

import dataclasses
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import pytest

from kd_cli.config import KdError
from kd_cli.report import plots
from kd_cli.report.benchmark import draw_benchmark
from kd_cli.report.comparison import draw_comparison
from kd_cli.report.evaluation import draw_evaluation
from kd_cli.report.training import draw_training
from tests.report import results

if TYPE_CHECKING:
    from matplotlib.figure import Figure

pytest.importorskip("matplotlib", reason="plots need the extra 'plot'")

PLOTS: dict[str, tuple[Callable[[Any], "Figure"], Any]] = {
    "training": (draw_training, results.training_result()),
    "ensemble": (draw_training, results.ensemble_result()),
    "evaluation": (draw_evaluation, results.evaluation_result()),
    "benchmark": (draw_benchmark, results.benchmark_result()),
    "comparison": (draw_comparison, results.comparison_result()),
}
MAGIC = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}


@pytest.mark.parametrize("name", PLOTS)
class TestEveryPlot:
    def test_names_the_data_set_and_the_device(self, name: str) -> None:
        draw, result = PLOTS[name]
        title = draw(result).get_suptitle()
        assert "some-data" in title
        assert "cpu (1 thread)" in title

    def test_gives_the_unit_of_every_axis(self, name: str) -> None:
        units = ("(%)", "(ms)", "(nats)", "(MACs)", "(count)", "(class)", "(passes over the training images)")
        draw, result = PLOTS[name]
        labels = [label for axes in draw(result).axes for label in (axes.get_xlabel(), axes.get_ylabel()) if label]
        assert labels
        assert [label for label in labels if not any(unit in label for unit in units)] == []

    def test_tells_lines_apart_without_colour(self, name: str) -> None:
        draw, result = PLOTS[name]
        for axes in draw(result).axes:
            handles: list[Any] = axes.get_legend_handles_labels()[0]
            lines = [handle[0] if isinstance(handle, tuple) else handle for handle in handles]
            looks = [(line.get_marker(), line.get_linestyle()) for line in lines]
            assert len(set(looks)) == len(looks)

    def test_keeps_its_legend_outside_the_axes(self, name: str) -> None:
        draw, result = PLOTS[name]
        figure = draw(result)
        figure.draw_without_rendering()
        assert [axes.get_legend() for axes in figure.axes] == [None] * len(figure.axes)
        for legend in figure.legends:
            boxes = [axes.get_tightbbox() for axes in figure.axes]
            assert not any(box and box.overlaps(legend.get_window_extent()) for box in boxes)


@pytest.mark.parametrize("ending", MAGIC)
def test_the_ending_decides_the_format_and_the_same_result_gives_the_same_bytes(tmp_path: Path, ending: str) -> None:
    first, second = (tmp_path / f"{stem}{ending}" for stem in ("first", "second"))
    for path in (first, second):
        plots.save(path, *PLOTS["comparison"])
    assert first.read_bytes().startswith(MAGIC[ending])
    assert first.read_bytes() == second.read_bytes()
    assert sorted(tmp_path.iterdir()) == [first, second]


def test_an_ending_in_capitals_is_the_same_ending(tmp_path: Path) -> None:
    plots.require_ready(tmp_path / "plot.PNG")
    plots.save(tmp_path / "plot.PNG", *PLOTS["benchmark"])
    assert (tmp_path / "plot.PNG").read_bytes().startswith(MAGIC[".png"])


def test_no_plot_is_drawn_where_none_was_asked_for() -> None:
    plots.require_ready(None)
    plots.save(None, Mock(side_effect=AssertionError("it was drawn")), None)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("plot.xyz", "ends in .png, .svg, .pdf"),
        ("plot", "ends in .png, .svg, .pdf"),
        (".", "ends in .png, .svg, .pdf"),
        ("", "ends in .png, .svg, .pdf"),
        ("/", "ends in .png, .svg, .pdf"),
        ("file/plot.png", "cannot write file/plot.png"),
        ("folder.png", "it is a folder"),
    ],
)
def test_what_cannot_be_written_is_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("no folder")
    Path("folder.png").mkdir()
    with pytest.raises(KdError, match=message) as caught:
        plots.require_ready(Path(target))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("ending", MAGIC)
class TestWhatIsInItsPlace:
    def test_is_replaced_if_it_is_a_plot_of_ours(self, tmp_path: Path, ending: str) -> None:
        path = tmp_path / f"plot{ending}"
        plots.save(path, *PLOTS["benchmark"])
        plots.require_ready(path)

    @pytest.mark.parametrize("content", [b"", b"a photograph", b"\x89PNG\r\n\x1a\n <dc:title>Matplotlib"])
    def test_is_refused_if_it_is_not_unless_by_force(self, tmp_path: Path, ending: str, content: bytes) -> None:
        path = tmp_path / f"plot{ending}"
        path.write_bytes(content)
        with pytest.raises(KdError, match=f"plot{ending}: it is a file that kd did not write"):
            plots.require_ready(path)
        plots.require_ready(path, force=True)
        assert path.read_bytes() == content

    def test_is_refused_if_it_leads_to_what_is_named_otherwise(self, tmp_path: Path, ending: str) -> None:
        (tmp_path / "teacher.safetensors").write_bytes(b"weights")
        (tmp_path / f"plot{ending}").symlink_to(tmp_path / "teacher.safetensors")
        with pytest.raises(KdError, match=r"ends in \.png"):
            plots.require_ready(tmp_path / f"plot{ending}", force=True)


@pytest.mark.parametrize("name", PLOTS)
def test_names_with_dollar_signs_are_no_formulas(tmp_path: Path, name: str) -> None:
    draw, result = PLOTS[name]
    odd: dict[str, Any] = {"dataset": "$\\frac{$", "classes": ("$\\frac{$",) * 3}
    if hasattr(result, "members"):
        odd["members"] = tuple(results.changed(member, dataset=odd["dataset"]) for member in result.members)
    fields = {field.name for field in dataclasses.fields(result)}
    plots.save(tmp_path / "plot.svg", draw, results.changed(result, **{key: odd[key] for key in fields & odd.keys()}))
    assert (tmp_path / "plot.svg").exists()


def test_missing_matplotlib_is_named_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(KdError) as caught:
        plots.require_ready(tmp_path / "plot.png")
    assert str(caught.value) == "--plot needs matplotlib: pip install 'kd-cli[plot]'"
    assert isinstance(caught.value.__cause__, ImportError)
    assert list(tmp_path.iterdir()) == []


def test_a_plot_that_cannot_be_written_in_the_end_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "old.png"
    path.write_bytes(b"old")
    monkeypatch.setattr("os.replace", Mock(side_effect=OSError(28, "No space left on device")))
    with pytest.raises(KdError, match="No space left on device"):
        plots.save(path, *PLOTS["training"])
    assert path.read_bytes() == b"old"


def run_python(program: str, **environment: str) -> str:
    """What a program prints on stderr."""
    own = os.environ | environment
    return subprocess.run([sys.executable, "-c", program], env=own, capture_output=True, text=True, check=True).stderr


def test_matplotlib_is_quiet_where_it_has_no_folder_for_its_settings(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    program = (
        "from pathlib import Path; from kd_cli.report import plots;"
        f"plots.require_ready(Path({str(tmp_path / 'plot.png')!r}));"
        "import matplotlib; matplotlib.get_cachedir()"
    )
    assert run_python(program, MPLCONFIGDIR=str(tmp_path / "file" / "folder")) == ""


def test_matplotlib_is_not_told_of_a_screen_that_it_does_not_know(tmp_path: Path) -> None:
    program = (
        "from pathlib import Path; from kd_cli.report import benchmark, plots; from tests.report import results;"
        f"path = Path({str(tmp_path / 'plot.png')!r}); plots.require_ready(path);"
        "plots.save(path, benchmark.draw_benchmark, results.benchmark_result())"
    )
    assert run_python(program, MPLBACKEND="nonsense", PYTHONPATH=str(Path(__file__).parents[2])) == ""


def test_a_table_does_not_import_matplotlib_and_a_plot_does_not_import_pyplot(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from tests.report import results;"
        "from kd_cli.report import plots, benchmark, comparison, evaluation, training;"
        "from kd_cli.report.benchmark import print_benchmark;"
        "result = results.benchmark_result(); print_benchmark(result); assert 'matplotlib' not in sys.modules;"
        f"plots.save(Path({str(tmp_path / 'plot.png')!r}), benchmark.draw_benchmark, result);"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    run_python(program, PYTHONPATH=str(Path(__file__).parents[2]))


@pytest.fixture(autouse=True)
def _keep_log_level() -> Any:
    log = logging.getLogger("matplotlib")
    before = log.level
    yield
    log.setLevel(before)
