"""Which images are set aside: equal shares of all classes, the same ones in every run."""

from pathlib import Path

import pytest
import torch

from kd_cli.config import ConfigError, DataConfig
from kd_cli.data.dataset import Split
from kd_cli.data.prepared import load
from kd_cli.data.splits import count_below, divide, stratified_order

NAMES = ("many", "some", "few")
LABELS = torch.tensor([0] * 60 + [1] * 30 + [2] * 3)


@pytest.mark.parametrize("fraction", [0.01, 0.1, 1 / 3, 0.5])
def test_the_beginning_of_the_order_holds_equal_shares_of_all_classes(fraction: float) -> None:
    first = LABELS[stratified_order(LABELS)][: count_below(fraction, LABELS, "validation-fraction", NAMES)]
    counts = first.bincount(minlength=3).tolist()
    assert counts == [-(-int(1000 * n * fraction) // 1000) or 1 for n in (60, 30, 3)]


def test_order_has_every_row_once_and_is_always_the_same() -> None:
    order = stratified_order(LABELS)
    assert order.sort().values.tolist() == list(range(93))
    assert torch.equal(order, stratified_order(LABELS))


def test_images_of_a_class_are_shuffled() -> None:
    rows = stratified_order(LABELS)
    assert rows[LABELS[rows] == 0].tolist() != list(range(60))


def test_fraction_that_leaves_a_class_without_an_image_is_refused_with_its_name() -> None:
    with pytest.raises(ConfigError, match=r"--test-fraction 0\.7 leaves none of the 3 images of 'few'"):
        count_below(0.7, LABELS, "test-fraction", NAMES)


def test_parts_are_views() -> None:
    split = Split(torch.zeros(10, 1, 2, 2, dtype=torch.uint8), torch.arange(10))
    first, rest = divide(split, 3)
    assert (len(first), len(rest)) == (3, 7)
    assert rest.images.untyped_storage().data_ptr() == split.images.untyped_storage().data_ptr()


def test_named_data_set_has_a_validation_part_only_where_it_is_asked_for(tmp_path: Path) -> None:
    whole = load(DataConfig("digits", tmp_path))
    parts = load(DataConfig("digits", tmp_path, validation_fraction=0.1))
    assert whole.validation is None
    assert parts.validation is not None
    assert parts.info == whole.info
    assert torch.equal(parts.test.images, whole.test.images)
    together = torch.cat([parts.validation.images, parts.train.images]).flatten(1)
    assert sorted(map(bytes, together.numpy())) == sorted(map(bytes, whole.train.images.flatten(1).numpy()))
    assert parts.validation.labels.bincount().tolist() == [
        -(-count // 10) for count in whole.train.labels.bincount().tolist()
    ]
