"""Normalisation becomes part of a first layer that is linear, and of no other."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kd_cli.data.dataset import DataInfo
from kd_cli.networks.build import build_network
from kd_cli.networks.classifier import Classifier
from kd_cli.networks.spec import parse_spec
from tests.networks.exported import export_for

onnx = pytest.importorskip("onnx", reason="exports need the extra 'export'")

COLOUR = DataInfo("some-data", ("cat", "dog", "owl"), (3, 12, 10), (0.5, 0.4, 0.3), (0.2, 0.25, 0.3), "")


class Patches(nn.Module):
    """Sees a row of a channel at a time, so that its weights are of no one channel."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.rows(x.reshape(-1, 10)).reshape(-1, 36, 3).mean(dim=1)
        return logits


class Twice(nn.Module):
    """Reads the normalised image in two places."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(360, 3)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.linear(x.flatten(1))
        return logits + x.mean(dim=(2, 3))


class OneChannel(nn.Module):
    """Convolves the second of three channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3)

    def forward(self, x: Tensor) -> Tensor:
        maps: Tensor = self.conv(x[:, 1:2])
        return maps.mean(dim=(2, 3))


class Tied(nn.Module):
    """Uses the weights of its first layer once more."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(360, 360)

    def forward(self, x: Tensor) -> Tensor:
        hidden: Tensor = self.linear(F.relu(self.linear(x.flatten(1))))
        return hidden[:, :3]


def pooled(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())


FOLDED = {
    "mlp": build_network(parse_spec("mlp-8"), COLOUR.shape, 3),
    "cnn": build_network(parse_spec("cnn-4"), COLOUR.shape, 3),
    "strided": pooled(nn.Conv2d(3, 3, 3, stride=2, dilation=2)),
}
LEFT = {
    "padded": pooled(nn.Conv2d(3, 3, 3, padding=1)),
    "without a bias": pooled(nn.Conv2d(3, 3, 3, bias=False)),
    "grouped": pooled(nn.Conv2d(3, 3, 3, groups=3)),
    "not linear": pooled(nn.ReLU(), nn.Conv2d(3, 3, 3)),
    "rows": Patches(),
    "read twice": Twice(),
    "one channel": OneChannel(),
    "tied weights": Tied(),
}


def normalises(path: Path) -> bool:
    """Whether the first operator of a file subtracts a mean."""
    return any(node.op_type == "Sub" and "pixels" in node.input for node in onnx.load(path).graph.node)


@pytest.mark.parametrize(("name", "left"), [*((name, False) for name in FOLDED), *((name, True) for name in LEFT)])
def test_logits_are_those_of_the_network_whether_its_first_layer_normalises_or_not(
    tmp_path: Path, name: str, left: bool
) -> None:
    classifier = Classifier((FOLDED | LEFT)[name], COLOUR.mean, COLOUR.std, COLOUR.shape).eval()
    network = export_for(classifier, COLOUR, tmp_path / "network.onnx")
    assert normalises(network.path) == left
    pixels = torch.rand(5, *COLOUR.shape)
    with torch.inference_mode():
        expected = classifier(pixels)
    torch.testing.assert_close(torch.from_numpy(network(pixels.numpy())), expected, rtol=1e-4, atol=1e-5)
