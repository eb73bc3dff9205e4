"""Plain state dicts: recognised by their layers, and read without running any code."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from kd_cli.config import KdError, Role
from kd_cli.data.dataset import DataInfo
from kd_cli.networks.build import build_network
from kd_cli.networks.checkpoint import Reading, load_checkpoint
from kd_cli.networks.classifier import Classifier
from kd_cli.networks.spec import Spec, parse_spec
from kd_cli.networks.state_dicts import MAX_BYTES, read_layout, read_weights, recognise

CPU = torch.device("cpu")


@pytest.mark.parametrize("classes", [2, 10, 37])
@pytest.mark.parametrize("spec", ["cnn-32", "mlp-128", "mlp-16-8", "mlp" + 16 * "-8"])
@pytest.mark.parametrize("new", [True, False], ids=["ZIP", "pickle"])
def test_state_dict_is_recognised_by_its_layers(tmp_path: Path, spec: str, classes: int, new: bool) -> None:
    path, network = tmp_path / "plain.pth", build_network(parse_spec(spec), classes=classes)
    torch.save(network.state_dict(), path, _use_new_zipfile_serialization=new)
    found, found_classes = recognise(path, read_layout(path), "--arch")
    assert (str(found), found_classes) == (spec, classes)
    torch.testing.assert_close(read_weights(path), dict(network.state_dict()), rtol=0, atol=0)


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
    loaded = load_checkpoint(tmp_path / "plain.pth", CPU, Reading(mean=(0.5,), std=(0.25,)))
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
        {name: tensor.long() for name, tensor in build_network(Spec("mlp", (8,))).state_dict().items()},
        build_network(Spec("mlp", (8,))).state_dict() | {"fc3.bias": torch.zeros(10)},
        build_network(Spec("mlp", (8,)), classes=1).state_dict(),
        torch.zeros(3),
        [],
        {},
    ],
    ids=["foreign", "colour", "cut", "text", "nothing", "integers", "more", "one class", "tensor", "list", "empty"],
)
def test_file_of_anything_else_is_refused_in_one_line(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "foreign.pth")
    with pytest.raises(KdError, match=r"foreign\.pth") as caught:
        load_checkpoint(tmp_path / "foreign.pth", CPU)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("new", [True, False], ids=["ZIP", "pickle"])
def test_state_dict_that_was_saved_on_a_gpu_that_is_not_here_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, new: bool
) -> None:
    weights = build_network(parse_spec("mlp-8")).state_dict()
    monkeypatch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:63")
    torch.save(weights, tmp_path / "plain.pth", _use_new_zipfile_serialization=new)
    read = read_weights(tmp_path / "plain.pth")
    assert {tensor.device for tensor in read.values()} == {CPU}
    torch.testing.assert_close(read, dict(weights), rtol=0, atol=0)


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
        file.truncate(MAX_BYTES + 1)  # takes no room on the disk
    with pytest.raises(KdError, match="larger"):
        load_checkpoint(path, CPU)


def colour(classes: int = 10) -> DataInfo:
    return DataInfo("flowers", tuple(map(str, range(classes))), (3, 24, 40), (0.4, 0.5, 0.6), (0.2, 0.3, 0.4), "digest")


SPEC = parse_spec("resnet-8")


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model", "model_state_dict"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_weights_are_found_as_training_programs_wrap_them(tmp_path: Path, wrapper: str | None, prefix: str) -> None:
    network = build_network(SPEC, (3, 24, 40))
    weights: dict[str, Any] = {prefix + name: tensor for name, tensor in network.state_dict().items()}
    torch.save({wrapper: weights, "epoch": 3, "best": 0.5} if wrapper else weights, tmp_path / "x.th")
    loaded = load_checkpoint(tmp_path / "x.th", CPU, Reading(SPEC, colour()))
    torch.testing.assert_close(loaded.classifier.network.state_dict(), network.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("kind", ["torch", "safetensors"])
def test_other_precisions_become_single_precision(tmp_path: Path, dtype: torch.dtype, kind: str) -> None:
    weights = build_network(SPEC, (3, 24, 40)).to(dtype).state_dict()
    (torch.save if kind == "torch" else save_file)(weights, tmp_path / "x.bin")
    network = load_checkpoint(tmp_path / "x.bin", CPU, Reading(SPEC, colour())).classifier.network
    assert network.get_parameter("conv1.weight").dtype == torch.float32
    torch.testing.assert_close(network.get_parameter("conv1.weight").to(dtype), weights["conv1.weight"])
    assert network.get_buffer("bn1.num_batches_tracked").dtype == torch.int64


def test_counters_that_older_programs_did_not_save_may_be_missing(tmp_path: Path) -> None:
    weights = build_network(SPEC, (3, 24, 40)).state_dict()
    torch.save({name: each for name, each in weights.items() if "tracked" not in name}, tmp_path / "x.pt")
    loaded = load_checkpoint(tmp_path / "x.pt", CPU, Reading(SPEC, colour()))
    assert loaded.classifier(torch.rand(2, 3, 24, 40)).shape == (2, 10)


def test_it_is_taken_for_a_network_of_the_data_in_hand(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    torch.save(build_network(SPEC, (3, 24, 40)).state_dict(), tmp_path / "x.pt")
    loaded = load_checkpoint(tmp_path / "x.pt", CPU, Reading(SPEC, colour(), std=(0.5,)))
    expected = replace(colour(), std=(0.5, 0.5, 0.5))
    assert (loaded.metadata.data, loaded.metadata.assumed) == (expected, True)
    assert "assumed flowers, pixels with mean 0.4,0.5,0.6 and standard deviation 0.5,0.5,0.5" in caplog.text


def test_its_digest_depends_on_its_normalisation(tmp_path: Path) -> None:
    torch.save(build_network(SPEC, (3, 24, 40)).state_dict(), tmp_path / "x.pt")
    digests = {load_checkpoint(tmp_path / "x.pt", CPU, Reading(SPEC, colour(), std=(x,))).digest for x in (0.5, 0.4)}
    assert len(digests) == 2


@pytest.mark.parametrize(
    ("spec", "classes", "message"),
    [
        ("resnet-14", 10, r"missing layer1.1.conv1.weight, .* and \d+ more"),
        ("mlp-8", 10, r"missing fc1.weight, .*unexpected conv1.weight, bn1.weight, .* and \d+ more"),
        ("resnet-8", 37, r"linear.weight is \(10, 64\), not \(37, 64\)"),
    ],
)
def test_names_and_shapes_that_do_not_fit_are_named(tmp_path: Path, spec: str, classes: int, message: str) -> None:
    torch.save(build_network(SPEC, (3, 24, 40)).state_dict(), tmp_path / "x.pt")
    with pytest.raises(KdError, match=message) as caught:
        load_checkpoint(tmp_path / "x.pt", CPU, Reading(parse_spec(spec), colour(classes)))
    assert len(str(caught.value)) < 500


def test_as_many_means_as_channels_are_asked_for(tmp_path: Path) -> None:
    torch.save(build_network(SPEC, (3, 24, 40)).state_dict(), tmp_path / "x.pt")
    with pytest.raises(KdError, match=r"--mean 0.1,0.2: the images have 3 channels"):
        load_checkpoint(tmp_path / "x.pt", CPU, Reading(SPEC, colour(), mean=(0.1, 0.2)))


def test_a_users_network_is_filled_from_a_state_dict(tmp_path: Path) -> None:
    spec = parse_spec("tests.networks.users:Small")
    network = build_network(spec, (3, 24, 40))
    torch.save(network.state_dict(), tmp_path / "x.pt")
    loaded = load_checkpoint(tmp_path / "x.pt", CPU, Reading(spec, colour()))
    torch.testing.assert_close(loaded.classifier.network.state_dict(), network.state_dict(), rtol=0, atol=0)
