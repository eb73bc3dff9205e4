"""Fine-tuning: a network starts from the weights of a file, but for the layer that tells classes apart."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from kd_cli.config import KdError
from kd_cli.networks.build import build_network
from kd_cli.networks.checkpoint import save_checkpoint
from kd_cli.networks.initial import read_initial
from kd_cli.networks.metadata import Metadata
from kd_cli.networks.spec import parse_spec

SPEC = parse_spec("resnet-8")
TEN = tuple("0123456789")


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    torch.save({"model": build_network(SPEC).half().state_dict()}, tmp_path / "weights.bin")
    return tmp_path / "weights.bin"


@pytest.mark.parametrize("classes", [TEN, ("a", "b", "c")])
def test_all_weights_are_taken_but_a_head_of_other_classes(
    plain: Path, classes: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    initial, network = read_initial(plain), build_network(SPEC, classes=len(classes))
    fresh = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    initial.load_into(network, SPEC, classes)
    head = [] if classes == TEN else ["linear.weight", "linear.bias"]
    for name, tensor in network.state_dict().items():
        expected = fresh[name] if name in head else initial.weights[name].to(tensor.dtype)
        assert torch.equal(tensor, expected), name
    assert ("linear.weight, linear.bias start afresh" in caplog.text) == bool(head)


@pytest.mark.parametrize(("classes", "fresh"), [(TEN, False), (tuple("abcdefghij"), True)])
def test_as_many_classes_of_other_names_are_other_classes(
    tmp_path: Path, metadata: Metadata, classes: tuple[str, ...], fresh: bool
) -> None:
    data = replace(metadata.data, classes=TEN)
    save_checkpoint(tmp_path / "x", build_network(SPEC), replace(metadata, architecture=str(SPEC), data=data))
    head = read_initial(tmp_path / "x").find_head(build_network(SPEC), SPEC, classes)
    assert head == (["linear.weight", "linear.bias"] if fresh else [])


def test_weights_of_another_architecture_are_refused_with_a_few_names(plain: Path) -> None:
    spec = parse_spec("resnet-14")
    with pytest.raises(KdError, match=r"does not fit resnet-14: missing layer1.1.conv1.weight, .* and \d+ more"):
        read_initial(plain).find_head(build_network(spec), spec, TEN)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KdError, match="no checkpoint"):
        read_initial(tmp_path / "absent")
