"""The data sets that have a name: are they what they are known to be?"""

from typing import Any

import pytest
import torch
from sklearn.datasets import load_digits
from torch.nn import functional as F
from torchvision import datasets

from kd_cli.data.dataset import Dataset, to_pixels
from kd_cli.data.sources import SOURCES


def test_mnist_has_its_documented_size(mnist: Dataset) -> None:
    assert (mnist.train.images.shape, mnist.test.images.shape) == ((60_000, 1, 28, 28), (10_000, 1, 28, 28))


def test_mnist_images_come_with_their_labels(mnist: Dataset) -> None:
    assert mnist.train.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]  # as printed in every introduction to it


def test_normalisation_of_mnist_is_the_well_known_one(mnist: Dataset) -> None:
    assert (mnist.info.mean, mnist.info.std) == ((0.1307,), (0.3081,))


@pytest.mark.parametrize("name", SOURCES)
def test_every_data_set_has_the_known_number_of_classes_with_names_of_their_own(name: str) -> None:
    expected = {"cifar100": 100, "emnist-letters": 26, "emnist-balanced": 47}.get(name, 10)
    assert len(set(SOURCES[name].classes)) == len(SOURCES[name].classes) == expected


def test_classes_are_those_of_torchvision() -> None:
    emnist = datasets.EMNIST.classes_split_dict
    assert SOURCES["emnist-balanced"].classes == tuple(emnist["balanced"])
    assert SOURCES["emnist-letters"].classes == tuple(emnist["letters"][1:])
    assert list(SOURCES["cifar100"].classes) == sorted(SOURCES["cifar100"].classes)


@pytest.mark.parametrize("name", ["mnist", "digits"])
def test_normalised_training_images_have_zero_mean_and_unit_variance(name: str, request: pytest.FixtureRequest) -> None:
    dataset: Dataset = request.getfixturevalue(name)
    images = (to_pixels(dataset.train.images[:5000]) - dataset.info.mean[0]) / dataset.info.std[0]
    assert images.mean().item() == pytest.approx(0, abs=0.02)
    assert images.std().item() == pytest.approx(1, abs=0.02)


def originals() -> Any:
    """scikit-learn's images, (1797, 64) from 0 to 1, and their labels."""
    bunch = load_digits()
    return torch.from_numpy(bunch.data).float() / 16, torch.from_numpy(bunch.target)


def test_digits_are_split_in_equal_shares_of_each_class(digits: Dataset) -> None:
    _, labels = originals()
    for split, size in ((digits.train, 1297), (digits.test, 500)):
        counts = split.labels.bincount() / size
        assert (counts - labels.bincount() / 1797).abs().max() < 0.002


def test_digits_keep_their_look_when_they_are_scaled_up(digits: Dataset) -> None:
    """Averaging each image's middle 20x20 back to 8x8 gives one of the originals, with its own label."""
    images, labels = originals()
    middle = to_pixels(digits.test.images[:, :, 4:24, 4:24])
    small = F.interpolate(middle, size=(8, 8), mode="bilinear", antialias=True)
    nearest = torch.cdist(small.flatten(1), images).argmin(1)
    assert (labels[nearest] == digits.test.labels).all()


def test_training_and_test_digits_do_not_overlap(digits: Dataset) -> None:
    distances = torch.cdist(digits.test.images.flatten(1).float(), digits.train.images.flatten(1).float())
    assert (distances == 0).sum() == 0
