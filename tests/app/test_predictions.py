import json
from pathlib import Path
from typing import Any

import pytest
import torch

from kd_cli.app import predictions
from kd_cli.commands.classify import classify as predict
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


def test_the_time_that_is_shown_is_not_that_of_a_cold_start(
    monkeypatch: pytest.MonkeyPatch, shipped: Path, seven: bytes
) -> None:
    path = shipped / "mnist" / "student.safetensors"
    networks = dict.fromkeys(Role, load_checkpoint(path, torch.device("cpu")))
    clock, seconds = [0.0], iter([5.0, 0.001, 5.0, 0.001])

    def classify(*arguments: Any) -> Any:
        clock[0] += next(seconds)
        return predict(*arguments)

    monkeypatch.setattr("kd_cli.app.predictions.classify", classify)
    monkeypatch.setattr("time.perf_counter", lambda: clock[0])
    found = predictions.predict_file(seven, "seven.png", networks)
    assert found.predicted_ms == pytest.approx(dict.fromkeys(Role, 1.0))
