"""Plain state dicts: recognised by their layers, and read without running any code."""

from pathlib import Path
from typing import Any

import pytest
import torch

from kd_cli.config import KdError, Role
from kd_cli.networks.build import build_network
from kd_cli.networks.checkpoint import load_checkpoint
from kd_cli.networks.classifier import Classifier
from kd_cli.networks.spec import Spec, parse_spec
from kd_cli.networks.state_dicts import is_state_dict, read_state_dict

CPU = torch.device("cpu")


@pytest.mark.parametrize("classes", [2, 10, 37])
@pytest.mark.parametrize("spec", ["cnn-32", "mlp-128", "mlp-16-8", "mlp" + 16 * "-8"])
@pytest.mark.parametrize("new", [True, False], ids=["ZIP", "pickle"])
def test_state_dict_is_recognised_by_its_layers(tmp_path: Path, spec: str, classes: int, new: bool) -> None:
    path, network = tmp_path / "plain.pth", build_network(parse_spec(spec), classes=classes)
    torch.save(network.state_dict(), path, _use_new_zipfile_serialization=new)
    assert is_state_dict(path)
    found, found_classes, weights = read_state_dict(path)
    assert (str(found), found_classes) == (spec, classes)
    torch.testing.assert_close(weights, dict(network.state_dict()), rtol=0, atol=0)


@pytest.mark.parametrize(("spec", "role"), [("cnn-4", Role.teacher), ("mlp-8", Role.student)])
def test_state_dict_is_taken_aloud_to_be_trained_on_mnist(
    tmp_path: Path, spec: str, role: Role, caplog: pytest.LogCaptureFixture
) -> None:
    network = build_network(parse_spec(spec)).eval()
    torch.save(network.state_dict(), tmp_path / "plain.pth")
    loaded = load_checkpoint(tmp_path / "plain.pth", CPU)
    assert (loaded.metadata.role, loaded.metadata.data.name) == (role, "mnist")
    pixels = torch.rand(3, 1, 28, 28)
    expected = Classifier(network, (0.1307,), (0.3081,), (1, 28, 28))(pixels)
    assert torch.equal(loaded.classifier(pixels), expected)
    assert "plain.pth does not say what it was trained on: assumed mnist" in caplog.text


def test_normalisation_that_a_state_dict_leaves_unsaid_may_be_given(tmp_path: Path) -> None:
    network = build_network(parse_spec("mlp-8")).eval()
    torch.save(network.state_dict(), tmp_path / "plain.pth")
    loaded = load_checkpoint(tmp_path / "plain.pth", CPU, mean=0.5, std=0.25)
    pixels = torch.rand(3, 1, 28, 28)
    torch.testing.assert_close(loaded.classifier(pixels), network((pixels - 0.5) / 0.25))
    assert (loaded.metadata.data.mean, loaded.metadata.data.std) == ((0.5,), (0.25,))


@pytest.mark.parametrize(
    "content",
    [
        {"weight": torch.zeros(3)},
        {"conv1.weight": torch.zeros(8, 3, 5, 5)},
        {"fc1.weight": torch.zeros(128, 784)},
        {"fc1.weight": "not a tensor"},
        {"fc1.weight": torch.zeros(0, 784), "fc2.weight": torch.zeros(10, 0)},
        {name: tensor.double() for name, tensor in build_network(Spec("mlp", (8,))).state_dict().items()},
        build_network(Spec("mlp", (8,))).state_dict() | {"fc3.bias": torch.zeros(10)},
        build_network(Spec("mlp", (8,)), classes=1).state_dict(),
        torch.zeros(3),
        [],
        {},
    ],
    ids=["foreign", "colour", "cut", "text", "nothing", "64 bits", "more", "one class", "tensor", "list", "empty"],
)
def test_file_of_anything_else_is_refused_in_one_line(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "foreign.pth")
    with pytest.raises(KdError, match=r"foreign\.pth") as caught:
        load_checkpoint(tmp_path / "foreign.pth", CPU)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("cut", [100, 1000, -1])
def test_cut_off_state_dict_is_refused(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "plain.pth"
    torch.save(build_network(parse_spec("mlp-8")).state_dict(), path)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(KdError, match="damaged"):
        load_checkpoint(path, CPU)


def test_file_that_is_larger_than_any_network_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "plain.pth"
    torch.save(build_network(parse_spec("mlp-8")).state_dict(), path)
    with open(path, "r+b") as file:
        file.truncate(2**30 + 1)  # takes no room on the disk
    with pytest.raises(KdError, match="larger"):
        load_checkpoint(path, CPU)
