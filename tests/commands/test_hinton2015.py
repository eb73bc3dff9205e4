"""What is reproduced of Hinton et al. 2015: the paper's numbers, and claims that are true of them."""

import pytest

from kd_cli.commands.hinton2015 import HINTON_2015
from kd_cli.commands.recipes import Row
from kd_cli.config import DataConfig, Role, TrainingPrecision

ROWS = {row.name: row for row in HINTON_2015.rows}


def test_the_papers_numbers_are_those_of_section_3() -> None:
    numbers = {row.name: [reading.paper for reading in row.readings if reading.paper] for row in HINTON_2015.rows}
    assert numbers == {
        "teacher": [67],
        "labels": [146],
        "soft": [74],
        "wide": [],
        "narrow": [],
        "no-3": [206, 133],
        "no-3-bias": [109, 14],
        "only-7-8": [4730, 1320],
    }


@pytest.mark.parametrize(
    ("name", "true", "false"),
    [
        ("teacher", {"errors": 67, "student": 146}, {"errors": 147, "student": 146}),
        ("soft", {"errors": 74, "errors from labels": 146}, {"errors": 150, "errors from labels": 146}),
        (
            "wide",
            {"T 2.5": 99, "T 8": 80, "T 14": 79, "T 20": 82, "T 8 from labels": 160},
            {"T 2.5": 99, "T 8": 80, "T 14": 150, "T 20": 160, "T 8 from labels": 165},
        ),
        (
            "wide",
            {"T 2.5": 99, "T 8": 80, "T 14": 79, "T 20": 82, "T 8 from labels": 160},
            {"T 2.5": 99, "T 8": 180, "T 14": 179, "T 20": 182, "T 8 from labels": 160},
        ),
        (
            "narrow",
            {"T 1": 400, "T 2.5": 330, "T 4": 340, "T 8": 350, "T 20": 390},
            {"T 1": 320, "T 2.5": 330, "T 4": 340, "T 8": 350, "T 20": 390},
        ),
        ("no-3", {"errors": 206, "on threes": 133}, {"errors": 1080, "on threes": 1010}),
        (
            "no-3-bias",
            {"errors": 109, "on threes": 14, "errors without it": 206},
            {"errors": 206, "on threes": 133, "errors without it": 206},
        ),
        ("only-7-8", {"errors": 4730, "with biases": 1320}, {"errors": 7998, "with biases": 7998}),
    ],
)
def test_claims_are_true_of_the_papers_numbers_and_can_be_false(
    name: str, true: dict[str, float], false: dict[str, float]
) -> None:
    holds = ROWS[name].holds
    assert holds is not None
    assert holds(true)
    assert not holds(false)


def test_the_networks_are_the_papers() -> None:
    specs = {row.name: {str(each.recipe.architecture) for each in row.readings} for row in HINTON_2015.rows}
    assert specs["teacher"] == {"mlp-1200-1200:dropout=0.5:input-dropout=0.2:max-norm=3.87", "mlp-800-800"}
    assert (specs["wide"], specs["narrow"]) == ({"mlp-300-300"}, {"mlp-30-30"})
    assert all(specs[name] == {"mlp-800-800"} for name in ("labels", "soft", "no-3", "no-3-bias", "only-7-8"))


@pytest.mark.parametrize("rows", [HINTON_2015.rows, HINTON_2015.quick_rows], ids=["full", "quick"])
class TestEveryScale:
    def test_has_the_same_results(self, rows: tuple[Row, ...]) -> None:
        assert [row.name for row in rows] == list(ROWS)

    def test_gives_each_network_a_name_of_its_own(self, rows: tuple[Row, ...]) -> None:
        recipes = {recipe for row in rows for recipe in row.recipes()}
        assert len({recipe.name for recipe in recipes}) == len(recipes)

    def test_fits_biases_where_images_were_set_aside(self, rows: tuple[Row, ...]) -> None:
        readings = [reading for row in rows for reading in row.readings if reading.fit_bias]
        assert len(readings) == 3
        assert all(reading.recipe.sets_aside for reading in readings)

    def test_students_see_no_jitter_and_choose_among_equally_many_settings(self, rows: tuple[Row, ...]) -> None:
        students = [each for row in rows for each in row.recipes() if each.role is Role.student]
        assert {each.training for each in students} == {students[0].training}
        assert len({len(each.settings) for each in students}) == 1
        assert students[0].training.augment == ()


def test_commands_name_the_data_the_network_and_its_teacher() -> None:
    (reading,) = ROWS["soft"].readings
    assert reading.recipe.teacher is not None
    data = DataConfig("mnist")
    assert reading.recipe.teacher.command(data, TrainingPrecision.bf16) == (
        "kd train-teacher --arch mlp-1200-1200:dropout=0.5:input-dropout=0.2:max-norm=3.87 --dataset mnist "
        "--epochs 100 --batch-size 250 --lr 0.0005 --augment shift --precision bf16 --threads 1 "
        "--output teacher.safetensors"
    )
    assert reading.recipe.candidates[0].command(data, TrainingPrecision.fp32) == (
        "kd distill --student mlp-800-800 --teacher teacher.safetensors --temperature 20.0 --alpha 0.5 "
        "--dataset mnist --epochs 60 --batch-size 250 --lr 0.01 --optimiser sgd --threads 1 "
        "--output student-soft.safetensors"
    )
    assert reading.command(data) == "kd evaluate student-soft.safetensors --confusion --dataset mnist"
