"""Classifiers: each brings its own normalisation, and takes pixels from 0 to 1."""

from dataclasses import replace

import pytest
import torch

from kd_cli.config import FORWARD_CHUNK
from kd_cli.data.dataset import Dataset, to_pixels
from kd_cli.networks.classifier import (
    Classifier,
    build_classifier,
    compute_logits,
    count_parameters,
)
from kd_cli.networks.spec import parse_spec

SPECS = pytest.mark.parametrize("spec", ["cnn-4", "mlp-16-8"])


@SPECS
def test_classifier_normalises_before_the_network(tiny: Dataset, spec: str) -> None:
    classifier = build_classifier(parse_spec(spec), replace(tiny.info, mean=(0.3,), std=(0.25,)))
    pixels = to_pixels(tiny.test.images[:20])
    torch.testing.assert_close(classifier(pixels), classifier.network((pixels - 0.3) / 0.25))


def test_each_channel_has_its_own_normalisation() -> None:
    seen_as_it_is = torch.nn.Identity()
    classifier = Classifier(seen_as_it_is, (0.1, 0.2, 0.3), (1.0, 2.0, 4.0), (3, 4, 4))
    seen = classifier(torch.ones(2, 3, 4, 4))
    torch.testing.assert_close(seen[:, :, 0, 0], torch.tensor([[0.9, 0.8 / 2, 0.7 / 4]] * 2))


@SPECS
def test_features_are_the_networks_and_end_with_the_logits(tiny: Dataset, spec: str) -> None:
    classifier = build_classifier(parse_spec(spec), tiny.info)
    pixels = to_pixels(tiny.test.images[:3])
    features = classifier.forward_features(pixels)
    normalised = (pixels - tiny.info.mean[0]) / tiny.info.std[0]
    expected = classifier.network.forward_features(normalised)  # type: ignore[operator]
    assert list(features) == list(expected)
    for name, feature in features.items():
        torch.testing.assert_close(feature, expected[name])
    assert torch.equal(list(features.values())[-1], classifier(pixels))


def test_normalisation_moves_with_the_classifier_but_is_not_part_of_its_weights(tiny: Dataset) -> None:
    classifier = build_classifier(parse_spec("mlp-8"), tiny.info)
    assert classifier.state_dict().keys() == {f"network.{name}" for name in classifier.network.state_dict()}
    assert classifier.to(torch.device("meta")).mean.is_meta


@pytest.mark.parametrize("classes", [2, 10, 37])
def test_classifier_tells_as_many_classes_apart_as_the_data_have(tiny: Dataset, classes: int) -> None:
    info = replace(tiny.info, classes=tuple(map(str, range(classes))))
    for spec in ("cnn-4", "mlp-8"):
        assert build_classifier(parse_spec(spec), info)(torch.rand(3, 1, 28, 28)).shape == (3, classes)


@pytest.mark.parametrize(("spec", "parameters"), [("cnn-32", 67_786), ("mlp-128", 101_770)])
def test_reference_networks_have_their_documented_size(tiny: Dataset, spec: str, parameters: int) -> None:
    assert count_parameters(build_classifier(parse_spec(spec), tiny.info)) == parameters


def test_classifier_knows_the_cost_of_its_network(teacher: Classifier) -> None:
    assert teacher.macs == teacher.network.macs


@pytest.mark.parametrize("count", [1, FORWARD_CHUNK, 2 * FORWARD_CHUNK + 203])
def test_logits_of_many_images_are_those_of_each(teacher: Classifier, count: int) -> None:
    images = torch.randint(0, 256, (count, 1, 28, 28), dtype=torch.uint8)
    logits = compute_logits(teacher, images)
    torch.testing.assert_close(logits, teacher(to_pixels(images)), check_stride=False)
    assert not logits.requires_grad


def test_logits_are_computed_in_bounded_memory() -> None:
    sizes = []

    def classifier(pixels: torch.Tensor) -> torch.Tensor:
        sizes.append(len(pixels))
        return pixels.flatten(1)[:, :10]

    compute_logits(classifier, torch.zeros(1203, 1, 28, 28, dtype=torch.uint8))
    assert max(sizes) <= FORWARD_CHUNK
    assert sum(sizes) == 1203
