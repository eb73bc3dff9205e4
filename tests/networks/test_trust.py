"""A checkpoint never makes the program run a user's code by itself."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from kd_cli.config import KdError
from kd_cli.networks.build import build_network
from kd_cli.networks.checkpoint import Reading, load_checkpoint, save_checkpoint
from kd_cli.networks.initial import read_initial
from kd_cli.networks.metadata import Metadata
from kd_cli.networks.spec import parse_spec
from kd_cli.networks.zoo import source_digest

CPU = torch.device("cpu")

SOURCE = """
from pathlib import Path
from torch import nn

(Path(__file__).parent / "imported").touch()

def make(num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(784, num_classes))
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "marking_net.py"
    path.write_text(SOURCE)
    return path


def save(path: Path, metadata: Metadata, architecture: str, source: Path) -> Path:
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10))
    digest = source_digest(str(source))
    save_checkpoint(path, network, replace(metadata, architecture=architecture, source=digest))
    return path


@pytest.mark.parametrize("by", ["file", "module"])
def test_code_that_only_a_checkpoint_names_is_never_imported(
    tmp_path: Path, source: Path, metadata: Metadata, by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    named = str(source) if by == "file" else "marking_net"
    path = save(tmp_path / "x.safetensors", metadata, f"{named}:make", source)
    for trust in ((), ("elsewhere/other.py", "marking", "os")):
        with pytest.raises(KdError, match="if you trust it") as caught:
            load_checkpoint(path, CPU, Reading(trust=trust))
        assert f"--trust {named}" in str(caught.value)
    read_initial(path)  # weights are read without the network
    assert not (tmp_path / "imported").exists()


@pytest.mark.parametrize("way", ["option", "variable", "module", "moved"])
def test_what_the_user_trusts_is_read(
    tmp_path: Path, source: Path, metadata: Metadata, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    named = {"module": "marking_net", "moved": "gone/marking_net.py"}.get(way, str(source))
    path = save(tmp_path / "x.safetensors", metadata, f"{named}:make", source)
    if way == "variable":
        monkeypatch.setenv("KD_TRUST", f"other.py:{source}")
    trust = {"variable": (), "module": ("marking_net",)}.get(way, ("marking_net.py",))
    loaded = load_checkpoint(path, CPU, Reading(trust=trust))
    assert loaded.classifier(torch.rand(2, 1, 28, 28)).shape == (2, 10)
    assert loaded.metadata.architecture == f"{named}:make"


def test_a_changed_source_is_told(
    tmp_path: Path, source: Path, metadata: Metadata, caplog: pytest.LogCaptureFixture
) -> None:
    path = save(tmp_path / "x.safetensors", metadata, f"{source}:make", source)
    load_checkpoint(path, CPU, Reading(trust=(str(source),)))
    assert not caplog.text
    source.write_text(SOURCE + "# changed")
    load_checkpoint(path, CPU, Reading(trust=(str(source),)))
    assert f"{source} has changed since" in caplog.text


def test_a_network_with_counters_and_tied_weights_comes_back(tmp_path: Path, metadata: Metadata) -> None:
    spec = parse_spec("tests.networks.users:Small")
    network = build_network(spec)
    network(torch.rand(4, 1, 28, 28))
    path = tmp_path / "x.safetensors"
    save_checkpoint(path, network, replace(metadata, architecture=str(spec), source="other"))
    loaded = load_checkpoint(path, CPU, Reading(trust=("tests.networks.users",))).classifier.network
    torch.testing.assert_close(loaded.state_dict(), network.state_dict(), rtol=0, atol=0)
    assert loaded.get_buffer("norm.num_batches_tracked") == 1
    assert loaded.get_buffer("one") == 1


@pytest.mark.parametrize("spec", ["torchvision:squeezenet1_1", "torchvision:regnet_y_400mf", "timm:test_vit"])
def test_a_librarys_network_comes_back(tmp_path: Path, metadata: Metadata, spec: str) -> None:
    if spec.startswith("timm"):
        pytest.importorskip("timm")
    shape = (3, 160, 160) if spec.startswith("timm") else (3, 32, 32)
    data = replace(metadata.data, shape=shape, mean=(0.5,) * 3, std=(0.5,) * 3)
    network = build_network(parse_spec(spec), shape).eval()
    save_checkpoint(tmp_path / "x.safetensors", network, replace(metadata, architecture=spec, data=data))
    loaded = load_checkpoint(tmp_path / "x.safetensors", CPU)
    pixels = torch.rand(2, *shape)
    torch.testing.assert_close(loaded.classifier(pixels), network((pixels - 0.5) / 0.5), rtol=1e-4, atol=1e-4)
