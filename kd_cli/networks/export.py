"""Networks as files that other programs run: ONNX, for ONNX Runtime among others. Needs the extra "export"."""

import contextlib
import copy
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from kd_cli.config import KdError, Precision
from kd_cli.networks.classifier import Classifier, count_parameters
from kd_cli.networks.metadata import Metadata
from kd_cli.networks.onnx_file import INPUT, METADATA_KEY, OUTPUT, Description
from kd_cli.networks.zoo import one_line
from kd_cli.version import __version__

if TYPE_CHECKING:
    import onnx
    from torch.export import ExportedProgram

EXAMPLE_IMAGES = 2
"""Of one image, an exporter takes the number of images for a constant."""


class _Cast(nn.Module):
    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def forward(self, x: Tensor) -> Tensor:
        return x.to(self.dtype)


def describe(classifier: Classifier, metadata: Metadata, precision: Precision = Precision.float32) -> Description:
    """What a file with this network is to say of itself."""
    return Description(metadata, precision, count_parameters(classifier), classifier.macs)


def export_onnx(classifier: Classifier, metadata: Metadata, path: Path, half: bool = False) -> None:
    """Write a network as one ONNX file, which takes ``pixels`` from 0 to 1, (N, C, H, W), and gives ``logits``.

    Normalisation and the order of the classes are part of the graph, and N may be any number.

    Args:
        classifier: in evaluation mode, on the CPU.
        metadata: what the file says of itself, see `Description`.
        path: an ONNX file; it is not checked here, nor written atomically.
        half: compute in 16 bits; input and output stay as they are.

    Raises:
        KdError: the extra "export" is missing; the network cannot be traced for any number of images, or has an
            operator that ONNX has not.
    """
    require_extra()
    description = describe(classifier, metadata, Precision.float16 if half else Precision.float32)
    program = trace(halve(classifier) if half else classifier, metadata.architecture)
    with _quiet(), _explained(f"cannot export {metadata.architecture} to ONNX"):
        exported = torch.onnx.export(
            program, (), dynamo=True, external_data=False, input_names=[INPUT], output_names=[OUTPUT], verbose=False
        )
    assert exported is not None  # it is where dynamo is True
    save_model(exported.model_proto, description, path)


def save_model(model: "onnx.ModelProto", description: Description, path: Path) -> None:
    """Write an ONNX model with its description, and without what the exporter notes: the paths of source files."""
    import onnx

    graph = model.graph
    for each in (graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        each.ClearField("metadata_props")
    model.producer_name, model.producer_version = "kd", __version__
    onnx.helper.set_model_props(model, {METADATA_KEY: description.to_json()})
    path.write_bytes(model.SerializeToString())


def trace(classifier: Classifier, architecture: str) -> "ExportedProgram":
    """The operations of a network for any number of images.

    Raises:
        KdError: they depend on that number, or on the values of the pixels.
    """
    from torch import export

    example = torch.rand(EXAMPLE_IMAGES, *classifier.shape)
    with _quiet(), _explained(f"cannot export {architecture}"):
        return export.export(classifier.eval(), (example,), dynamic_shapes=({0: export.Dim("batch")},), strict=False)


def halve(classifier: Classifier) -> Classifier:
    """A copy that computes in 16 bits, but for the normalisation; logits have 32 bits again."""
    network = nn.Sequential(_Cast(torch.half), copy.deepcopy(classifier.network).half(), _Cast(torch.float))
    mean, std = (tuple(each.flatten().tolist()) for each in (classifier.mean, 1 / classifier.inverse_std))
    order = None if classifier.order is None else tuple(classifier.order.tolist())
    return Classifier(network, mean, std, classifier.shape, order).eval()


def require_extra() -> None:
    """Refuse before anything slow.

    Raises:
        KdError: a library of the extra "export" is missing.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise KdError("kd export needs ONNX and ONNX Runtime: pip install 'kd-cli[export]'") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Exporters print and log what goes wrong, at length; the exception says enough."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    sink: Any = io.StringIO()
    try:
        with contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


@contextlib.contextmanager
def _explained(what: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # of a user's network, or of the exporter, which raises many kinds
        raise KdError(f"{what}: {_root(error)}") from error


def _root(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return one_line(error)
