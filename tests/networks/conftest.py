"""A network of ten classes, and the ONNX file of it."""

from pathlib import Path

import pytest
import torch

from kd_cli.config import Role
from kd_cli.data.dataset import Dataset
from kd_cli.networks.classifier import Classifier
from kd_cli.networks.export import export_onnx
from kd_cli.networks.metadata import Confidence, Metadata
from tests.networks.exporting import Net, classify


@pytest.fixture(scope="session")
def classifier() -> Classifier:
    torch.manual_seed(0)
    return classify(Net())


@pytest.fixture(scope="session")
def described(tiny: Dataset) -> Metadata:
    """What `exported` says of itself."""
    return Metadata(Role.student, "net", tiny.info, "kd", 3, 0.5, {"epochs": 1}, confidence=Confidence(1.5))


@pytest.fixture(scope="session")
def exported(classifier: Classifier, described: Metadata, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("exported") / "net.onnx"
    export_onnx(classifier, described, path)
    return path
