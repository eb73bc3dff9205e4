"""Methods and their configuration: defaults, bounds, errors, and which networks a method can work on."""

import dataclasses
import re
import subprocess
import sys
from typing import Any

import pytest

from kd_cli.config import ConfigError, KdError, Option
from kd_cli.distillation.methods import (
    FROM_LABELS,
    METHODS,
    WEIGHTS,
    FeatureLevel,
    MethodConfig,
    describe_options,
    find_method,
    require_possible,
)
from kd_cli.networks.spec import parse_spec

OPTIONS = {field.name for field in dataclasses.fields(MethodConfig)} - {"method", "student_layer", "teacher_layer"}


def test_methods_are_known_without_torch() -> None:
    code = "import sys, kd_cli.distillation.methods; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", METHODS)
class TestEveryRow:
    def test_has_options_that_a_configuration_has(self, name: str) -> None:
        assert METHODS[name].options.keys() <= OPTIONS

    def test_is_searched_in_ranges_of_its_own_options_around_their_defaults(self, name: str) -> None:
        row = METHODS[name]
        assert row.ranges.keys() <= row.options.keys()
        for option, values in row.ranges.items():
            assert values.low < row.options[option] < values.high
            for end in (values.low, values.high):
                given: dict[str, Any] = {option: end}
                assert MethodConfig(name, **given).options[option] == end

    def test_can_be_tuned_down_to_where_the_teacher_hardly_counts(self, name: str) -> None:
        row = METHODS[name]
        if row.label_weight != 0:  # else the teacher is all there is
            for option in row.options.keys() & set(WEIGHTS):
                assert row.ranges[option].low <= row.options[option] / 50

    def test_has_defaults_that_are_taken_where_nothing_is_given(self, name: str) -> None:
        assert MethodConfig(name).options == METHODS[name].options

    def test_has_a_place_in_a_paper_where_there_is_a_paper(self, name: str) -> None:
        row = METHODS[name]
        assert bool(row.title) == bool(row.equation)
        assert bool(row.title) == bool(re.search(r" \d{4}$", row.short))

    def test_says_what_the_weight_of_the_labels_is(self, name: str) -> None:
        assert (METHODS[name].label_weight is None) == ("alpha" in METHODS[name].options)
        assert 0 <= MethodConfig(name).label_weight <= 1

    def test_is_named_in_the_help(self, name: str) -> None:
        assert f"{name}, " in f"{MethodConfig.__dataclass_fields__['method'].metadata['option'].help}".replace(";", ",")

    def test_takes_names_of_layers_where_it_reads_some(self, name: str) -> None:
        if METHODS[name].reads_features:
            config = MethodConfig(name, student_layer="layer1", teacher_layer="layer4")
            assert config.layers == {"student_layer": "layer1", "teacher_layer": "layer4"}
            assert config.settings == config.options | config.layers
        else:
            with pytest.raises(ConfigError, match=f"{name} reads no layer: .* or use one of fitnet, at, sp"):
                MethodConfig(name, student_layer="layer1")

    def test_is_found_by_its_name(self, name: str) -> None:
        assert find_method(name) is METHODS[name]


def test_the_paper_is_named_by_authors_year_and_title() -> None:
    assert METHODS["kd"].paper == 'Hinton et al. 2015, "Distilling the Knowledge in a Neural Network"'


def test_kd_is_the_default() -> None:
    assert MethodConfig() == MethodConfig("kd")


def test_a_default_given_is_the_default() -> None:
    assert MethodConfig("kd") == MethodConfig("kd", temperature=4, alpha=0.9)
    assert repr(MethodConfig("kd", temperature=4).options) == repr(MethodConfig("kd").options)  # 4 and 4.0 differ


def test_what_is_given_takes_the_place_of_the_default() -> None:
    assert MethodConfig("dkd", beta=2).options == {"temperature": 4.0, "weight": 1.0, "beta": 2.0}


def test_a_configuration_can_be_changed_in_one_field() -> None:
    assert dataclasses.replace(MethodConfig("kd"), alpha=0.5) == MethodConfig("kd", alpha=0.5)


def test_alpha_0_is_the_baseline() -> None:
    assert MethodConfig("kd", temperature=3, alpha=0) == FROM_LABELS


def test_only_labels_is_the_baseline() -> None:
    assert [name for name in METHODS if MethodConfig(name).is_baseline] == ["labels"]


@pytest.mark.parametrize(
    ("config", "label_weight"),
    [
        (MethodConfig("kd", alpha=0.75), 0.25),
        (MethodConfig("kl"), 0),
        (MethodConfig("mse"), 0),
        (MethodConfig("logit-std"), 0.1),
        (MethodConfig("crd"), 1),
        (FROM_LABELS, 1),
    ],
    ids=str,
)
def test_alpha_or_the_method_decides_the_weight_of_the_labels(config: MethodConfig, label_weight: float) -> None:
    assert config.label_weight == label_weight


@pytest.mark.parametrize(
    ("config", "text"),
    [
        (MethodConfig("kd"), "kd (T 4, alpha 0.9)"),
        (MethodConfig("kd", temperature=2.5), "kd (T 2.5, alpha 0.9)"),
        (MethodConfig("rkd"), "rkd (weight 25, beta 50)"),
        (MethodConfig("at", student_layer="layer2"), "at (weight 1000, student at layer2)"),
        (MethodConfig("kl"), "kl"),
        (FROM_LABELS, "labels"),
    ],
)
def test_a_configuration_shows_its_options(config: MethodConfig, text: str) -> None:
    assert str(config) == text


def test_options_are_shown_in_their_order() -> None:
    assert describe_options({"weight": 30_000.0, "temperature": 0.5}) == "weight 30000, T 0.5"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "nonsense"}, "unknown method 'nonsense': use labels, kl, kd, "),
        ({"method": "kdd"}, "did you mean kd?"),
        ({"method": "logitstd"}, "did you mean logit-std?"),
        ({"method": "kl", "temperature": 3}, "kl has no --temperature (its options: none): leave it out, or use kd, "),
        ({"method": "at", "alpha": 0.5}, "at has no --alpha (its options: --weight): leave it out, or use kd"),
        ({"method": "kd", "beta": 2}, "kd has no --beta (its options: --temperature, --alpha)"),
        ({"method": "labels", "alpha": 0}, "labels has no --alpha"),
        ({"temperature": 0}, "--temperature 0: use a number above 0"),
        ({"temperature": float("nan")}, "--temperature nan"),
        ({"temperature": float("inf")}, "--temperature inf"),
        ({"alpha": -0.1}, "--alpha -0.1: use a number from 0 to 1"),
        ({"alpha": 1.5}, "--alpha 1.5"),
        ({"alpha": float("nan")}, "--alpha nan"),
        ({"method": "sp", "weight": 0}, "--weight 0"),
        ({"method": "rkd", "beta": -1}, "--beta -1"),
    ],
)
def test_wrong_options_are_refused_in_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        MethodConfig(**options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_field_is_an_option_of_the_command_line() -> None:
    assert all(isinstance(field.metadata["option"], Option) for field in dataclasses.fields(MethodConfig))


class TestPairsOfNetworks:
    def test_maps_need_a_student_that_has_some(self) -> None:
        with pytest.raises(KdError, match="cnn-8"):
            require_possible(MethodConfig("at"), parse_spec("mlp-128"))

    def test_maps_need_a_teacher_that_has_some(self) -> None:
        with pytest.raises(KdError, match="cnn-32"):
            require_possible(MethodConfig("at"), parse_spec("cnn-8"), ["mlp-128"])

    @pytest.mark.parametrize("student", ["cnn-8", "resnet-8", "torchvision:vit_b_16", "nets.py:small"])
    def test_maps_of_networks_that_may_have_some_are_compared(self, student: str) -> None:
        require_possible(MethodConfig("at"), parse_spec(student), ["cnn-32"])
        require_possible(MethodConfig("at"), parse_spec("cnn-8"), [student])

    @pytest.mark.parametrize("name", [name for name in METHODS if name != "at"])
    def test_all_other_methods_take_any_networks(self, name: str) -> None:
        require_possible(MethodConfig(name), parse_spec("mlp-128"), ["mlp-800-800"])

    @pytest.mark.parametrize("name", METHODS)
    def test_only_methods_that_compare_features_refuse_several_teachers(self, name: str) -> None:
        teachers = ["cnn-6", "cnn-6"]
        if METHODS[name].reads in (FeatureLevel.penultimate, FeatureLevel.maps):
            with pytest.raises(KdError, match="one teacher, not of 2"):
                require_possible(MethodConfig(name), parse_spec("cnn-8"), teachers)
        else:
            require_possible(MethodConfig(name), parse_spec("cnn-8"), teachers)

    def test_a_pair_that_cannot_work_is_no_usage_error(self) -> None:
        with pytest.raises(KdError) as caught:
            require_possible(MethodConfig("at"), parse_spec("mlp-128"))
        assert not isinstance(caught.value, ConfigError)
