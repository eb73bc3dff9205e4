"""Classes as users name them, and the images of some of them."""

import pytest
import torch

from kd_cli.config import ConfigError, LabelConfig
from kd_cli.data.classes import choose_classes, find_class, keep_classes
from kd_cli.data.dataset import Split

NAMES = ("cat", "dog", "7", "ankle boot")

SPLIT = Split(torch.arange(8, dtype=torch.uint8).view(8, 1, 1, 1), torch.tensor([0, 1, 2, 3, 0, 1, 2, 0]))


@pytest.mark.parametrize(("text", "label"), [("dog", 1), ("ankle boot", 3), ("3", 3), ("7", 2), ("0", 0)])
def test_a_class_is_found_by_name_or_else_by_number(text: str, label: int) -> None:
    assert find_class(text, NAMES) == label


@pytest.mark.parametrize(("text", "says"), [("dgo", "did you mean dog?"), ("4", "use cat, dog, 7"), ("-1", "use cat")])
def test_a_class_that_is_not_there_is_refused_with_those_that_are(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match="unknown class") as caught:
        find_class(text, NAMES)
    assert says in str(caught.value)


def test_an_error_does_not_list_a_thousand_classes() -> None:
    with pytest.raises(ConfigError, match="and 990 more") as caught:
        find_class("x", [f"class {number}" for number in range(1000)])
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("config", "rows"),
    [
        (LabelConfig(omit_class=("dog",)), [0, 2, 3, 4, 6, 7]),
        (LabelConfig(omit_class=("cat", "2")), [1, 3, 5]),
        (LabelConfig(only_classes=("7", "dog")), [1, 2, 5, 6]),
    ],
)
def test_images_of_the_classes_are_kept_in_their_order(config: LabelConfig, rows: list[int]) -> None:
    kept = keep_classes(SPLIT, config, NAMES)
    assert kept.images.flatten().tolist() == rows
    assert torch.equal(kept.labels, SPLIT.labels[rows])


def test_without_a_choice_the_split_is_as_it_was() -> None:
    assert keep_classes(SPLIT, LabelConfig(), NAMES) is SPLIT


def test_no_class_is_too_few() -> None:
    with pytest.raises(ConfigError, match="--omit-class cat,dog,7,ankle boot leaves no class"):
        choose_classes(LabelConfig(omit_class=NAMES), NAMES)


def test_classes_without_an_image_are_too_few() -> None:
    with pytest.raises(ConfigError, match="no training image"):
        keep_classes(Split(SPLIT.images[:1], SPLIT.labels[:1]), LabelConfig(only_classes=("dog",)), NAMES)
