"""A share of the training labels: which images keep theirs, and what becomes of the others."""

import pytest
import torch

from kd_cli.config import ConfigError, LabelConfig, Transfer
from kd_cli.data.dataset import Split
from kd_cli.data.labels import NO_LABEL, choose_labels


@pytest.fixture(scope="module")
def split() -> Split:
    """192 different images of 10 classes."""
    random = torch.Generator().manual_seed(0)
    images = torch.randint(256, (192, 1, 4, 4), generator=random, dtype=torch.uint8)
    return Split(images, torch.arange(192) % 10)


def test_all_labels_leave_the_split_as_it_is(split: Split) -> None:
    assert choose_labels(split, LabelConfig(1.0, Transfer.all), seed=0, teacher=True) is split


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.9])
def test_each_class_keeps_its_share(split: Split, fraction: float) -> None:
    chosen = choose_labels(split, LabelConfig(fraction), seed=0, teacher=True)
    counts = torch.bincount(chosen.labels, minlength=10)
    assert len(chosen) == int(fraction * len(split))
    assert counts.max() - counts.min() <= 1


def test_images_keep_their_own_labels(split: Split) -> None:
    chosen = choose_labels(split, LabelConfig(0.5), seed=0, teacher=True)
    known = {image.numpy().tobytes(): int(label) for image, label in zip(split.images, split.labels, strict=True)}
    found = [known[image.numpy().tobytes()] for image in chosen.images]
    assert found == chosen.labels.tolist()


def test_the_seed_decides_which(split: Split) -> None:
    a, b, c = (choose_labels(split, LabelConfig(0.1), seed=seed, teacher=True).images for seed in (0, 0, 1))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_a_teacher_makes_no_difference_to_which(split: Split) -> None:
    with_teacher, without = (choose_labels(split, LabelConfig(0.1), seed=0, teacher=each) for each in (True, False))
    assert torch.equal(with_teacher.images, without.images)


def test_transfer_shows_all_images_with_the_others_unlabelled(split: Split) -> None:
    chosen = choose_labels(split, LabelConfig(0.1, Transfer.all), seed=0, teacher=True)
    known = chosen.labels != NO_LABEL
    assert torch.equal(chosen.images, split.images)
    assert known.sum() == 19
    assert torch.equal(chosen.labels[known], split.labels[known])


def test_the_baseline_of_a_transfer_takes_as_many_steps_on_the_same_labelled_images(split: Split) -> None:
    with_teacher = choose_labels(split, LabelConfig(0.1, Transfer.all), seed=0, teacher=True)
    without = choose_labels(split, LabelConfig(0.1, Transfer.all), seed=0, teacher=False)
    labelled = with_teacher.images[with_teacher.labels != NO_LABEL]
    assert len(without) == len(with_teacher)
    assert (without.labels != NO_LABEL).all()
    assert torch.equal(without.images.unique(dim=0), labelled.unique(dim=0))


def test_the_baseline_of_a_transfer_repeats_every_image_about_as_often(split: Split) -> None:
    without = choose_labels(split, LabelConfig(0.1, Transfer.all), seed=0, teacher=False)
    _, times = without.images.unique(dim=0, return_counts=True)
    assert times.max() - times.min() <= 1


@pytest.mark.parametrize("fraction", [0.001, 0.05, 0.96, 0.999, 0.999999])
@pytest.mark.parametrize("transfer", Transfer)
def test_a_fraction_that_the_classes_cannot_share_is_refused(split: Split, fraction: float, transfer: Transfer) -> None:
    """Near 1 as well: rather than to use all labels and to report a fraction."""
    with pytest.raises(ConfigError, match=f"--train-fraction {fraction:g} .* 10 classes") as caught:
        choose_labels(split, LabelConfig(fraction, transfer), seed=0, teacher=True)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("fraction", [0.001, 0.999])
def test_the_fractions_that_a_refusal_names_can_be_used(split: Split, fraction: float) -> None:
    with pytest.raises(ConfigError) as caught:
        choose_labels(split, LabelConfig(fraction), seed=0, teacher=True)
    least, most = str(caught.value).split(": use ")[1].split(", or ")[0].split(" to ")
    for named in (float(least), float(most)):
        assert 10 <= len(choose_labels(split, LabelConfig(named), seed=0, teacher=True)) <= 182


def test_a_class_without_images_is_no_obstacle(split: Split) -> None:
    rows = split.labels != 3
    chosen = choose_labels(Split(split.images[rows], split.labels[rows]), LabelConfig(0.5), seed=0, teacher=True)
    assert 3 not in chosen.labels


@pytest.mark.parametrize("fraction", [0.0, -0.5, 1.5, float("nan")])
def test_what_is_no_fraction_is_refused(fraction: float) -> None:
    with pytest.raises(ConfigError, match="--train-fraction"):
        LabelConfig(fraction)
