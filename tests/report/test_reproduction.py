"""A paper's numbers beside ours, as a table and as a plot."""

from dataclasses import replace
from importlib.util import find_spec

import pytest

from kd_cli.commands.results import Measured, ReadingResult, ReproductionResult, RowResult, RunCount
from kd_cli.report.reproduction import draw_reproduction, print_reproduction
from tests.report.axes import axes_of, points
from tests.report.conftest import Printed
from tests.report.results import WHERE
from tests.report.test_evaluation import rows

needs_matplotlib = pytest.mark.skipif(find_spec("matplotlib") is None, reason="plots need the extra 'plot'")


def measured(*runs: int, std: float | None = 4.0, biases: tuple[dict[str, float], ...] = ()) -> Measured:
    return Measured(runs, sum(runs) / len(runs), std, biases)


SOFT = RowResult(
    "soft",
    "soft targets: 74 errors",
    "fewer errors than from labels",
    True,
    (ReadingResult("errors", 74, 20.0, measured(80, 90), measured(1150, 1250)),),
    ("kd train-teacher", "kd distill", "kd evaluate"),
)
BIASED = RowResult(
    "bias",
    "with a bias: 14 errors on threes",
    "",
    None,
    (
        ReadingResult("errors", 109, 20.0, measured(90, std=None, biases=({"3": 3.456},)), None),
        ReadingResult("on threes", None, 20.0, None, None),
    ),
    ("kd train-teacher", "kd distill --omit-class 3"),
)
SWEEP = RowResult(
    "narrow",
    "T from 2.5 to 4 best",
    "T 2.5 is best",
    False,
    tuple(ReadingResult(f"T {t}", None, t, measured(300 + int(t)), measured(400)) for t in (1.0, 2.5, 4.0)),
    (),
)


@pytest.fixture
def result() -> ReproductionResult:
    return ReproductionResult(
        **WHERE,
        paper="somebody-2015",
        reference="Somebody 2015",
        quick=False,
        seeds=(0, 1),
        test_images=10_000,
        results_dir="results",
        runs=RunCount(7, 3, 2),
        rows=(SOFT, BIASED, SWEEP),
        failed=(),
    )


def test_every_number_stands_beside_the_papers_and_the_baselines(printed: Printed, result: ReproductionResult) -> None:
    found = rows(printed(print_reproduction, result))
    assert ["soft", "errors", "74", "85.0 ± 4.0", "1,200.0 ± 4.0", "yes"] in found
    assert ["bias", "errors", "109", "90.0", "-", "-"] in found
    assert ["", "on threes", "-", "-", "-", ""] in found
    assert ["narrow", "T 1.0", "-", "301.0 ± 4.0", "400.0 ± 4.0", "no"] in found


def test_each_command_is_shown_once_with_the_first_result_that_needs_it(
    printed: Printed, result: ReproductionResult
) -> None:
    lines = [line.strip() for line in printed(print_reproduction, result).splitlines()]
    first = lines.index("soft: soft targets: 74 errors.")
    assert lines[first + 1 : first + 5] == [
        "Claim: fewer errors than from labels: yes",
        "kd train-teacher",
        "kd distill",
        "kd evaluate",
    ]
    second = lines.index("bias: with a bias: 14 errors on threes.")
    assert lines[second + 1] == "kd distill --omit-class 3"


def test_biases_that_were_fitted_are_shown(printed: Printed, result: ReproductionResult) -> None:
    assert "bias, errors: biases fitted to validation images: 3 +3.46" in printed(print_reproduction, result)


def test_how_much_was_done_is_said(printed: Printed, result: ReproductionResult) -> None:
    assert "7 networks, 3 of them trained now, 2 at a time, 0 failed; kept in results" in printed(
        print_reproduction, result
    )


@pytest.mark.parametrize("quick", [False, True])
def test_smaller_networks_are_no_result_of_the_paper(printed: Printed, result: ReproductionResult, quick: bool) -> None:
    out = printed(print_reproduction, replace(result, quick=quick))
    assert ("only the directions can be compared" in out) == ("smaller networks" in out) == quick


@needs_matplotlib
def test_the_plot_shows_numbers_of_the_paper_and_temperatures(result: ReproductionResult) -> None:
    numbers, sweeps = axes_of(draw_reproduction(result))
    assert [label.get_text() for label in numbers.get_yticklabels()] == ["soft: errors", "bias: errors"]
    assert points(numbers) == ([74, 109], [0, 1])
    ours, from_labels = (container[0].get_data() for container in numbers.containers)
    assert [list(each) for each in ours] == [[85, 90], [0, 1]]
    assert [list(each) for each in from_labels] == [[1200], [0]]
    assert [list(each) for each in sweeps.containers[0][0].get_data()] == [[1, 2.5, 4], [301, 302, 304]]
    assert set(sweeps.get_legend_handles_labels()[1]) == {"narrow", "narrow, from labels"}


@needs_matplotlib
@pytest.mark.parametrize("row", [SOFT, SWEEP])
def test_the_plot_leaves_out_what_is_not_there(result: ReproductionResult, row: RowResult) -> None:
    assert len(draw_reproduction(replace(result, rows=(row,))).axes) == 1
