"""Residual networks: those of the paper, under the names of published checkpoints."""

from pathlib import Path

import pytest
import torch

from kd_cli.data.dataset import DataInfo
from kd_cli.networks.build import build_network
from kd_cli.networks.checkpoint import Reading, load_checkpoint
from kd_cli.networks.classifier import Classifier, build_classifier, count_macs, count_parameters
from kd_cli.networks.features import trace
from kd_cli.networks.resnet import ResNet
from kd_cli.networks.spec import parse_spec
from tests.conftest import DATA_DIR

CPU = torch.device("cpu")
COLOUR = DataInfo("cifar10", tuple("abcdefghij"), (3, 32, 32), (0.5,) * 3, (0.25,) * 3, "")


@pytest.mark.parametrize(
    ("depth", "parameters"),
    # Table 6 of the paper, in thousands: 0.27 M, 0.46 M, 0.66 M, 0.85 M, 1.7 M.
    [(20, 269_722), (32, 464_154), (44, 658_586), (56, 853_018), (110, 1_727_962)],
)
def test_sizes_are_those_of_the_paper(depth: int, parameters: int) -> None:
    with torch.device("meta"):
        assert count_parameters(build_network(parse_spec(f"resnet-{depth}"), (3, 32, 32))) == parameters


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28), (4, 25, 39)])
def test_cost_is_known_without_counting(shape: tuple[int, int, int]) -> None:
    network = ResNet(14, shape, 10)
    assert network.macs == count_macs(network, torch.zeros(1, *shape))


def test_stages_halve_the_maps_and_double_the_channels() -> None:
    classifier = Classifier(ResNet(8, (3, 24, 40), 37), (0.5,) * 3, (0.3,) * 3, (3, 24, 40))
    shapes = {use.name: use.shape for use in trace(classifier, torch.zeros(2, 3, 24, 40))}
    assert [shapes[name] for name in ("layer1", "layer2", "layer3", "linear")] == [
        *((2, 16, 24, 40), (2, 32, 12, 20), (2, 64, 6, 10)),
        (2, 37),
    ]


def test_a_convolutional_network_is_computed_channels_last_with_the_same_values() -> None:
    classifier = build_classifier(parse_spec("resnet-8"), COLOUR).eval()
    assert classifier.network.get_parameter("layer1.0.conv1.weight").is_contiguous(memory_format=torch.channels_last)
    pixels = torch.rand(5, 3, 32, 32)
    plain = classifier.network.to(memory_format=torch.contiguous_format)((pixels - 0.5) / 0.25)
    torch.testing.assert_close(classifier(pixels), plain, rtol=1e-4, atol=1e-4)


PUBLISHED = {"resnet-20": "resnet20-12fca82f.th", "resnet-56": "resnet56-4bfd9763.th"}


@pytest.mark.parametrize("spec", PUBLISHED)
def test_published_checkpoints_are_read(spec: str, caplog: pytest.LogCaptureFixture) -> None:
    path = Path(DATA_DIR, "cifar10-resnet", PUBLISHED[spec])
    if not path.exists():
        pytest.skip("needs the published checkpoints")
    loaded = load_checkpoint(path, CPU, Reading(parse_spec(spec), COLOUR, (0.485, 0.456, 0.406), prefix="--teacher-"))
    assert loaded.metadata.data.name == "cifar10"
    assert loaded.metadata.data.std == (0.229, 0.224, 0.225)
    assert loaded.classifier(torch.rand(2, 3, 32, 32)).shape == (2, 10)
    assert "--teacher-mean and --teacher-std say otherwise" in caplog.text
