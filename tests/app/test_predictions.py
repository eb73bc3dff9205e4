import json
from pathlib import Path

import pytest
import torch

from kd_cli.app import predictions
from kd_cli.config import Role
from kd_cli.networks.checkpoint import load_checkpoint
from tests.conftest import CommandLine


def test_the_same_image_is_predicted_as_kd_predict_does(
    kd: CommandLine, shipped: Path, tmp_path: Path, seven: bytes
) -> None:
    (tmp_path / "seven.png").write_bytes(seven)
    (image,) = json.loads(kd("predict", "seven.png", "--models-dir", shipped, "--json")[1])["images"]
    networks = {
        role: load_checkpoint(shipped / "mnist" / f"{role.value}.safetensors", torch.device("cpu")) for role in Role
    }
    found = predictions.predict_file(seven, "seven.png", networks)
    for role in Role:
        assert found.by_role[role].probabilities == pytest.approx(image[role.value]["probabilities"])
