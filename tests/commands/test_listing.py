"""What there is to choose from, and where methods read a network unless told otherwise."""

import subprocess
import sys
from pathlib import Path

import pytest

from kd_cli.commands import listing
from kd_cli.commands.listing import list_datasets, list_layers, list_methods, list_networks
from kd_cli.config import ConfigError, DataConfig, ImagesConfig, KdError
from kd_cli.data.sources import SOURCES
from kd_cli.distillation.methods import LEARNING_RATES, METHODS
from kd_cli.networks.spec import parse_spec
from kd_cli.options import make_config

COLOUR = ImagesConfig(shape=(3, 12, 12), classes=37)
NETWORK = """
from torch import nn
def small(num_classes, in_channels):
    return nn.Sequential(nn.Conv2d(in_channels, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(400, num_classes))
def convolutional(num_classes):
    return nn.Sequential(nn.Conv2d(3, num_classes, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
"""


def test_methods_networks_and_data_sets_are_listed_without_torch() -> None:
    code = (
        "import sys; from kd_cli.cli import main;"
        "assert [main(['list', what]) for what in ('methods', 'networks', 'datasets')] == [0, 0, 0];"
        "sys.exit(bool({'torch', 'torchvision', 'timm'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, stdout=subprocess.DEVNULL).returncode == 0


def test_every_method_is_listed_with_its_defaults() -> None:
    assert {each.name: each.options for each in list_methods().methods} == {
        name: dict(row.options) for name, row in METHODS.items()
    }


def test_every_method_is_listed_with_what_kd_tune_searches() -> None:
    listed = list_methods()
    assert {each.name: each.ranges for each in listed.methods} == {
        name: dict(row.ranges) for name, row in METHODS.items()
    }
    assert listed.learning_rates == LEARNING_RATES


def test_every_data_set_is_listed_with_its_classes() -> None:
    assert {each.name: each.classes for each in list_datasets().datasets} == {
        name: source.classes for name, source in SOURCES.items()
    }


def test_every_example_of_a_network_is_a_spec() -> None:
    for family in list_networks().networks:
        for example in family.examples:
            assert str(parse_spec(example)) == example


def test_the_networks_of_a_library_are_counted_as_it_counts_them() -> None:
    models = pytest.importorskip("torchvision.models")
    counts = {family.spec: family.count for family in list_networks().networks}
    assert counts["torchvision:NAME"] == len(models.list_models(module=models))


def test_a_library_that_is_not_installed_has_no_count() -> None:
    assert listing.count_registered("no_such_library") is None


class TestLayers:
    def test_of_reference_networks_are_those_of_their_features(self) -> None:
        layers = list_layers(parse_spec("cnn-4"), ImagesConfig())
        assert [(each.name, each.type, each.shape) for each in layers.layers] == [
            ("conv1", "Conv2d", (4, 4, 4)),
            ("fc1", "Linear", (128,)),
            ("fc2", "Linear", (10,)),
        ]
        assert (layers.penultimate, layers.maps) == ("fc1", "conv1")
        assert list_layers(parse_spec("mlp-4"), ImagesConfig()).maps is None

    def test_of_other_networks_are_those_that_an_image_goes_through(self) -> None:
        layers = list_layers(parse_spec("resnet-8"), COLOUR)
        assert (layers.penultimate, layers.maps) == ("input of linear", "layer3")
        assert (layers.image_shape, layers.classes) == ((3, 12, 12), 37)
        assert {each.name: each.shape for each in layers.layers}["layer2.0.conv1"] == (32, 6, 6)

    def test_of_a_users_network_are_listed(self, tmp_path: Path) -> None:
        (tmp_path / "nets.py").write_text(NETWORK)
        layers = list_layers(parse_spec(f"{tmp_path}/nets.py:small"), COLOUR)
        assert [each.type for each in layers.layers] == ["Conv2d", "ReLU", "Flatten", "Linear"]
        assert (layers.penultimate, layers.maps) == ("input of 3", "1")
        assert list_layers(parse_spec(f"{tmp_path}/nets.py:convolutional"), COLOUR).penultimate is None

    def test_fit_the_images_of_a_data_set(self, data: DataConfig) -> None:
        layers = list_layers(parse_spec("resnet-8"), ImagesConfig("digits", data.data_dir))
        assert (layers.image_shape, layers.classes) == ((1, 28, 28), 10)

    def test_of_an_unknown_data_set_are_refused(self, data: DataConfig) -> None:
        with pytest.raises(KdError, match="nonsense"):
            list_layers(parse_spec("resnet-8"), ImagesConfig("nonsense", data.data_dir))

    def test_need_one_shape(self) -> None:
        with pytest.raises(ConfigError, match="give --dataset or --shape, not both"):
            ImagesConfig("digits", shape=(3, 12, 12))

    @pytest.mark.parametrize("text", ["3", "3,4", "3,-4,5", "3,0,5", "a,b,c", "3,4,5,6", "1,1,99999", ",,,1,1,1"])
    def test_of_an_impossible_shape_are_refused(self, text: str) -> None:
        with pytest.raises(ConfigError, match=r"use channels, height and width of the images, e\.g\. 3,224,224"):
            make_config(ImagesConfig, {"shape": text})
