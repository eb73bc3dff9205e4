"""Networks exported for tests."""

from pathlib import Path

from kd_cli.config import Role
from kd_cli.data.dataset import DataInfo
from kd_cli.networks.classifier import Classifier
from kd_cli.networks.export import export_onnx
from kd_cli.networks.metadata import Metadata
from kd_cli.networks.onnx_file import OnnxNetwork


def export_for(classifier: Classifier, data: DataInfo, path: Path, role: Role = Role.student) -> OnnxNetwork:
    """Export a network for this kind of data, and open the file."""
    export_onnx(classifier, Metadata(role, "some-network", data, "labels", 0, 0.5, {}), path)
    return OnnxNetwork(path, threads=1)
