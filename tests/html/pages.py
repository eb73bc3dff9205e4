"""Pages with exported networks, for tests."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from kd_cli.config import Role
from kd_cli.data.dataset import DataInfo
from kd_cli.html.folder import INDEX, Shown, write_folder
from kd_cli.networks.checkpoint import checkpoint_path, load_checkpoint
from kd_cli.networks.classifier import build_classifier
from kd_cli.networks.export import export_onnx
from kd_cli.networks.metadata import Metadata
from kd_cli.networks.onnx_file import OnnxNetwork
from kd_cli.networks.spec import parse_spec

COLOURED = DataInfo("things", ("<b>chair</b>", "table", "lamp"), (3, 32, 32), (0.5,) * 3, (0.25,) * 3, digest="")


def export_shipped(models_dir: Path, folder: Path, role: Role) -> OnnxNetwork:
    """A network of MNIST's that ships."""
    checkpoint = load_checkpoint(checkpoint_path(models_dir, "mnist", role), torch.device("cpu"))
    path = folder / f"{role.value}.onnx"
    export_onnx(checkpoint.classifier.eval(), checkpoint.metadata, path)
    return OnnxNetwork(path)


def export_fresh(data: DataInfo, metadata: Metadata, folder: Path) -> OnnxNetwork:
    """A small student of other images, that learnt nothing."""
    torch.manual_seed(0)
    path = folder / f"{data.name}.onnx"
    export_onnx(build_classifier(parse_spec("mlp-8"), data).eval(), replace(metadata, data=data), path)
    return OnnxNetwork(path)


def write_page(networks: Sequence[OnnxNetwork], folder: Path) -> str:
    """The address of a page with these networks, on this disk."""
    write_folder([Shown(network, 0.5) for network in networks], folder)
    return (folder / INDEX).resolve().as_uri()
