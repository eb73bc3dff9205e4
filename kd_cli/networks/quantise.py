"""Networks in 8 bits: ONNX files whose weights and activations are integers. Needs the extra "export"."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from kd_cli.config import Precision
from kd_cli.networks.classifier import Classifier
from kd_cli.networks.export import describe, explained, export_onnx, quiet, save_model
from kd_cli.networks.metadata import Metadata
from kd_cli.networks.onnx_file import INPUT, OUTPUT, to_pixels

if TYPE_CHECKING:
    import onnx

CALIBRATION_IMAGES = 1000
"""From which the ranges of activations are taken."""

CALIBRATION_BATCH = 50


def export_int8(classifier: Classifier, metadata: Metadata, path: Path, images: NDArray[np.uint8]) -> None:
    """Write a network as `export_onnx` does, in 8 bits: signed, with a scale for each channel of a weight.

    Activations are quantised by the range of values that they take (static, QDQ format): see ONNX Runtime's "Quantize
    ONNX models", which advises all of that for CPUs.

    Args:
        classifier: in evaluation mode, on the CPU.
        metadata: what the file says of itself.
        path: the file; what it computes is not checked here.
        images: training images, (N, C, H, W), of which some are used, evenly spread.

    Raises:
        KdError: as `export_onnx`; or ONNX Runtime cannot quantise the network.
    """
    with TemporaryDirectory() as folder:
        exact, prepared, quantised = (Path(folder) / f"{name}.onnx" for name in ("exact", "prepared", "quantised"))
        export_onnx(classifier, metadata, exact)
        import onnx
        from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
        from onnxruntime.quantization.shape_inference import quant_pre_process

        class Reader(CalibrationDataReader):  # type: ignore[misc]
            def __init__(self) -> None:
                self.batches = _batches(images)

            def get_next(self) -> dict[str, NDArray[np.float32]] | None:
                return next(self.batches, None)

        with quiet(), explained(f"{metadata.architecture} cannot be quantised", "use --half"):
            quant_pre_process(exact, prepared)
            quantize_static(
                prepared,
                quantised,
                Reader(),
                quant_format=QuantFormat.QDQ,
                activation_type=QuantType.QInt8,
                weight_type=QuantType.QInt8,
                per_channel=True,
            )
        model = onnx.load(quantised)
    _shorten_names(model.graph)
    save_model(model, describe(classifier, metadata, Precision.int8), path)


def _batches(images: NDArray[np.uint8]) -> Iterator[dict[str, NDArray[np.float32]]]:
    rows = np.linspace(0, len(images) - 1, min(CALIBRATION_IMAGES, len(images))).astype(int)
    for start in range(0, len(rows), CALIBRATION_BATCH):
        yield {INPUT: to_pixels(images[rows[start : start + CALIBRATION_BATCH]])}


def _shorten_names(graph: "onnx.GraphProto") -> None:
    """Number what lies between input and output: quantised, a small network would be made of names to a tenth."""
    from onnx import AttributeProto

    kinds = {attribute.type for node in graph.node for attribute in node.attribute}
    if kinds & {AttributeProto.GRAPH, AttributeProto.GRAPHS}:
        return  # a graph inside may name what is outside
    short = {name: name for name in ("", INPUT, OUTPUT)}

    def rename(name: str) -> str:
        return short.setdefault(name, str(len(short)))

    for constant in graph.initializer:
        constant.name = rename(constant.name)
    for node in graph.node:
        node.ClearField("name")
        node.input[:] = map(rename, node.input)
        node.output[:] = map(rename, node.output)
    graph.ClearField("value_info")
