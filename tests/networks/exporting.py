"""Networks to export, and ONNX files that no ``kd export`` wrote."""

from collections.abc import Sequence
from pathlib import Path

import onnx
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

from kd_cli.networks.classifier import Classifier
from kd_cli.networks.onnx_file import METADATA_KEY

PIXELS = 28 * 28


class Net(nn.Module):
    """Ten logits of a 28x28 image."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(PIXELS, 10)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.linear(x.flatten(1))
        return logits


class WithoutOnnxOperator(Net):
    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = torch.special.bessel_j0(super().forward(x))
        return logits


class OfBatchSize(Net):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if len(x) > 16 else 2 * super().forward(x)


class OfValues(Net):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if x.sum() > 0 else 2 * super().forward(x)


def classify(network: nn.Module) -> Classifier:
    return Classifier(network, (0.1,), (0.3,), (1, 28, 28)).eval()


def write_graph(
    path: Path,
    input: str = "pixels",
    output: str = "logits",
    shape: Sequence[str | int] = ("batch", 1, 28, 28),
    description: str | None = None,
) -> Path:
    """An ONNX file that flattens what it is given."""
    taken = helper.make_tensor_value_info(input, TensorProto.FLOAT, shape)
    given = helper.make_tensor_value_info(output, TensorProto.FLOAT, [shape[0], None])
    graph = helper.make_graph([helper.make_node("Flatten", [input], [output])], "graph", [taken], [given])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    if description is not None:
        helper.set_model_props(model, {METADATA_KEY: description})
    onnx.save(model, path)
    return path
