"""The grid of a comparison: which pairs of student and method there are, and which are left out."""

from collections.abc import Callable

import pytest

from kd_cli.commands.grid import Cell, ComparisonConfig, make_grid
from kd_cli.config import ConfigError
from kd_cli.distillation.methods import FROM_LABELS, MethodConfig, require_possible
from kd_cli.networks.spec import parse_spec

MLP, CNN = parse_spec("mlp-8"), parse_spec("cnn-4")
KD = MethodConfig("kd")


def methods_of(config: ComparisonConfig) -> list[MethodConfig]:
    return [cell.method for cell in make_grid(config).cells]


def test_every_student_has_its_baseline_first() -> None:
    cells = make_grid(ComparisonConfig(("kd",), (MLP, CNN))).cells
    assert cells == (Cell(MLP, FROM_LABELS), Cell(MLP, KD), Cell(CNN, FROM_LABELS), Cell(CNN, KD))


def test_temperatures_multiply_only_methods_that_have_one() -> None:
    config = ComparisonConfig(("kd", "rkd"), (MLP,), temperatures=(1.0, 4.0))
    warm = MethodConfig("kd", temperature=1)
    assert methods_of(config) == [FROM_LABELS, warm, KD, MethodConfig("rkd")]


def test_temperatures_and_alphas_multiply_each_other() -> None:
    config = ComparisonConfig(("kd",), (MLP,), temperatures=(1.0, 2.0), alphas=(0.3, 0.6))
    expected = [MethodConfig("kd", temperature=t, alpha=a) for t in (1, 2) for a in (0.3, 0.6)]
    assert methods_of(config) == [FROM_LABELS, *expected]


def test_alpha_0_is_the_baseline_and_not_done_twice() -> None:
    assert methods_of(ComparisonConfig(("kd",), (MLP,), alphas=(0.0, 0.5))) == [
        FROM_LABELS,
        MethodConfig("kd", alpha=0.5),
    ]


def test_the_baseline_is_not_done_twice_where_it_is_asked_for() -> None:
    assert methods_of(ComparisonConfig(("labels", "kd"), (MLP,))) == [FROM_LABELS, KD]


def test_a_default_that_is_spelled_out_is_the_same_cell() -> None:
    assert methods_of(ComparisonConfig(("kd",), (MLP,), temperatures=(4.0,))) == [FROM_LABELS, KD]


def test_a_pair_that_cannot_work_is_left_out_with_the_reason() -> None:
    grid = make_grid(ComparisonConfig(("at",), (MLP, CNN)))
    assert [str(cell.student) for cell in grid.cells] == ["mlp-8", "cnn-4", "cnn-4"]
    ((cell, reason),) = grid.refused
    assert cell == Cell(MLP, MethodConfig("at"))
    assert "cnn-8" in reason


def test_what_a_teacher_cannot_give_is_left_out_once_the_teachers_are_known() -> None:
    config = ComparisonConfig(("kd", "at"), (CNN,))
    assert make_grid(config).refused == ()
    assert [
        cell
        for cell, _ in make_grid(config, lambda cell: require_possible(cell.method, cell.student, ["mlp-16"])).refused
    ] == [Cell(CNN, MethodConfig("at"))]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ComparisonConfig(students=()), "nothing to compare"),
        (lambda: ComparisonConfig(methods=()), "nothing to compare"),
        (lambda: ComparisonConfig(methods=("labels",)), "besides labels"),
        (lambda: ComparisonConfig(alphas=(0.0,)), "besides labels"),
        (lambda: ComparisonConfig(methods=("at",), students=(MLP,)), "cnn-8"),
        (lambda: ComparisonConfig(methods=("rkd",), temperatures=(4.0,)), "none of --methods takes --temperatures"),
        (lambda: ComparisonConfig(methods=("dist",), alphas=(0.5,)), "none of --methods takes --alphas"),
        (lambda: ComparisonConfig(methods=("nonsense",)), "unknown method 'nonsense'"),
        (lambda: ComparisonConfig(methods=("nonsense",), temperatures=(1.0,)), "unknown method 'nonsense'"),
        (lambda: ComparisonConfig(temperatures=(4.0, 0.0)), "--temperatures 0.0"),
        (lambda: ComparisonConfig(alphas=(2.0,)), "--alphas 2.0"),
        (lambda: ComparisonConfig(seeds=0), "--seeds 0"),
        (lambda: ComparisonConfig(seeds=10**9), "--seeds 1000000000: use a number from 1 to 10,000"),
        (lambda: ComparisonConfig(jobs=0), "--jobs 0"),
    ],
)
def test_what_cannot_be_compared_is_refused_when_it_is_configured(
    make: Callable[[], ComparisonConfig], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


def test_layers_are_read_by_the_methods_that_read_layers() -> None:
    config = ComparisonConfig(("kd", "sp"), (CNN,), student_layer="conv1")
    assert methods_of(config) == [FROM_LABELS, KD, MethodConfig("sp", student_layer="conv1")]


def test_layers_that_no_method_reads_are_refused() -> None:
    with pytest.raises(ConfigError, match="none of --methods reads a layer: leave --student-layer"):
        ComparisonConfig(("kd",), (CNN,), teacher_layer="conv1")
