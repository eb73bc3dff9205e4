"""Configurations: what they refuse, and that one that exists is valid."""

import dataclasses
import importlib
import math
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import kd_cli
from kd_cli.config import (
    AUGMENTATIONS,
    MAX_SEED,
    ClassBiasConfig,
    Config,
    ConfigError,
    LabelConfig,
    Option,
    TeacherConfig,
    TrainingConfig,
    option,
    parse_augment,
)
from kd_cli.options import make_config


def all_configs(base: type[Config] = Config) -> Iterator[type[Config]]:
    for room in pkgutil.iter_modules([f"{kd_cli.__path__[0]}/commands"], "kd_cli.commands."):
        importlib.import_module(room.name)
    for config in base.__subclasses__():
        if config.__module__.startswith("kd_cli."):
            yield config
            yield from all_configs(config)


ALL_CONFIGS = sorted(set(all_configs()), key=lambda config: config.__name__)


@pytest.mark.parametrize(
    ("make", "flag", "advice"),
    [
        (lambda: TrainingConfig(epochs=0), "--epochs 0", "1 to 1,000,000"),
        (lambda: TrainingConfig(batch_size=-1), "--batch-size -1", "1 to 1,000,000"),
        (lambda: TrainingConfig(lr=0.0), "--lr 0", "above 0"),
        (lambda: TrainingConfig(lr=math.nan), "--lr nan", "above 0"),
        (lambda: TrainingConfig(lr=math.inf), "--lr inf", "above 0"),
        (lambda: TrainingConfig(seed=-1), "--seed -1", "0 to 4,294,967,295"),
        (lambda: TrainingConfig(seed=MAX_SEED + 1), "--seed 4294967296", "0 to 4,294,967,295"),
        (lambda: LabelConfig(train_fraction=0.0), "--train-fraction 0", "above 0, at most 1"),
        (lambda: LabelConfig(train_fraction=1.01), "--train-fraction 1.01", "above 0, at most 1"),
        (lambda: TeacherConfig(ensemble=0), "--ensemble 0", "1 to 1,000"),
    ],
)
def test_a_value_out_of_bounds_is_refused_with_its_flag_and_what_to_use(
    make: Callable[[], Config], flag: str, advice: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        make()
    assert str(refused.value).startswith(flag)
    assert advice in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "make",
    [
        lambda: TrainingConfig(epochs=1, batch_size=1, lr=1e-300, seed=0),
        lambda: TrainingConfig(epochs=1_000_000, batch_size=1_000_000, seed=MAX_SEED),
        lambda: LabelConfig(train_fraction=1.0),
        lambda: LabelConfig(train_fraction=1e-9),
        lambda: TeacherConfig(ensemble=1_000),
    ],
)
def test_a_value_at_its_bound_is_taken(make: Callable[[], Config]) -> None:
    make()


def test_classes_are_left_out_or_named_not_both() -> None:
    with pytest.raises(ConfigError, match="--omit-class or --only-classes, not both"):
        LabelConfig(omit_class=("3",), only_classes=("7",))


def test_a_teacher_and_an_ensemble_contradict_each_other() -> None:
    with pytest.raises(ConfigError, match="not both"):
        TeacherConfig(teachers=(Path("mine.safetensors"),), ensemble=2)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ()),
        ("warp", ("warp",)),
        ("warp, shift,warp", ("shift", "warp")),
        ("resized-crop,flip-crop,warp,shift", AUGMENTATIONS),
    ],
)
def test_augmentations_are_read_in_the_order_in_which_they_are_applied(text: str, expected: tuple[str, ...]) -> None:
    assert parse_augment(text) == expected


@pytest.mark.parametrize("refuse", [parse_augment, lambda text: TrainingConfig(augment=(text,))])
def test_unknown_augmentation_is_refused_with_the_nearest(refuse: Callable[[str], object]) -> None:
    with pytest.raises(ConfigError, match=r"unknown augmentation 'flip_crop' \(did you mean flip-crop\?\): use shift,"):
        refuse("flip_crop")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3=3.5", [("3", 3.5)]),
        ("7=-7.6, 8=+1", [("7", -7.6), ("8", 1.0)]),
        ("a=b=2", [("a=b", 2.0)]),
        ("", []),
    ],
)
def test_class_biases_are_read(text: str, expected: list[tuple[str, float]]) -> None:
    config = make_config(ClassBiasConfig, {"class_bias": text})
    assert isinstance(config, ClassBiasConfig)
    assert [(each.name, each.value) for each in config.class_bias] == expected


@pytest.mark.parametrize("text", ["3", "=3", "3=", "3=x", "3=nan", "3=inf", "3=1,3=2"])
def test_what_is_no_class_bias_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--class-bias") as caught:
        make_config(ClassBiasConfig, {"class_bias": text})
    assert "\n" not in str(caught.value)


def test_class_biases_are_given_or_fitted_not_both() -> None:
    with pytest.raises(ConfigError, match="--class-bias or --fit-class-bias, not both"):
        make_config(ClassBiasConfig, {"class_bias": "3=1", "fit_class_bias": "3"})


@pytest.mark.parametrize("config", ALL_CONFIGS, ids=lambda config: config.__name__)
class TestEveryConfiguration:
    def test_cannot_be_changed_once_it_is_checked(self, config: type[Config]) -> None:
        made = config()
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(made, dataclasses.fields(config)[0].name, None)

    def test_has_valid_defaults_and_equals_another_of_the_same_values(self, config: type[Config]) -> None:
        assert config() == config()
        assert hash(config()) == hash(config())

    def test_says_in_one_line_what_each_option_does(self, config: type[Config]) -> None:
        for field in dataclasses.fields(config):
            about: Option = field.metadata["option"]
            assert about.help.endswith("."), about.help
            assert "\n" not in about.help


@dataclass(frozen=True)
class Bounded(Config):
    least: int = option(3, "At least 3.", minimum=3)
    several: tuple[float, ...] = option((), "Above 0.", above=0)
    named: int = option(1, "Another name.", minimum=1, flag="other")
    maybe: float | None = option(None, "Up to 1.", minimum=0, maximum=1)
    free: float = option(0.0, "Finite.")
    switch: bool = option(False, "No number at all.")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"least": 2}, "--least 2: use 3 or more"),
        ({"several": (1.0, 2.0, 0.0)}, "--several 0.0: use a number above 0"),
        ({"named": 0}, "--other 0: use 1 or more"),
        ({"maybe": 1.5}, "--maybe 1.5: use a number from 0 to 1"),
        ({"free": math.inf}, "--free inf: use a finite number"),
    ],
)
def test_each_kind_of_bound_is_checked_and_put_in_words(values: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Bounded(**values)  # type: ignore[arg-type]
    assert str(refused.value) == message


def test_none_and_switches_have_no_bounds() -> None:
    made = Bounded(maybe=None, switch=True, several=())
    assert (made.maybe, made.switch, made.several) == (None, True, ())
