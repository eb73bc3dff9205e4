"""Checkpoints: what is written comes back to the bit, and nothing else is taken for a checkpoint."""

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from kd_cli.config import KdError, Role
from kd_cli.data.dataset import DataInfo, Dataset, to_pixels
from kd_cli.networks.build import build_network
from kd_cli.networks.checkpoint import (
    DIGEST_KEY,
    METADATA_KEY,
    checkpoint_path,
    compute_digest,
    find_checkpoint,
    is_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from kd_cli.networks.classifier import build_classifier
from kd_cli.networks.metadata import Confidence, Membership, Metadata, Typical
from kd_cli.networks.spec import parse_spec

CPU = torch.device("cpu")

Description = dict[str, Any]


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return build_network(parse_spec("mlp-8"))


@pytest.fixture
def saved(tmp_path: Path, network: nn.Module, metadata: Metadata) -> Path:
    path = tmp_path / "student.safetensors"
    save_checkpoint(path, network, metadata)
    return path


def read_description(path: Path) -> Description:
    with safe_open(path, framework="pt") as file:
        description: Description = json.loads(file.metadata()[METADATA_KEY])
    return description


def write(path: Path, description: Description, tensors: dict[str, Tensor]) -> None:
    """Write a description with a digest that fits, as a hostile writer would."""
    description.pop(DIGEST_KEY, None)
    sealed = description | {DIGEST_KEY: compute_digest(description, tensors)}
    save_file(tensors, path, {METADATA_KEY: json.dumps(sealed)})


def assert_same_weights(found: nn.Module, expected: nn.Module) -> None:
    torch.testing.assert_close(found.state_dict(), expected.state_dict(), rtol=0, atol=0)


def test_network_comes_back_to_the_bit(saved: Path, network: nn.Module) -> None:
    assert_same_weights(load_checkpoint(saved, CPU).classifier.network, network)


def test_metadata_comes_back_whole(saved: Path, metadata: Metadata) -> None:
    assert load_checkpoint(saved, CPU).metadata == metadata


def test_what_confidences_are_worth_comes_back(saved: Path, network: nn.Module, metadata: Metadata) -> None:
    directions = ((0.5,) * len(metadata.data.classes), (-0.5,) * len(metadata.data.classes))
    fitted = replace(metadata, confidence=Confidence(temperature=1.25, typical=Typical(directions, least=0.5)))
    save_checkpoint(saved, network, fitted)
    assert load_checkpoint(saved, CPU).metadata == fitted


def test_the_least_confidence_of_earlier_versions_is_passed_over(saved: Path) -> None:
    description = read_description(saved) | {"confidence": {"temperature": 1.5, "least": 0.5}}
    write(saved, description, load_file(saved))
    assert load_checkpoint(saved, CPU).metadata.confidence == Confidence(temperature=1.5)


def test_place_in_an_ensemble_comes_back(saved: Path, network: nn.Module, metadata: Metadata) -> None:
    member = replace(metadata, ensemble=Membership("0123abcd", number=2, size=3))
    save_checkpoint(saved, network, member)
    assert load_checkpoint(saved, CPU).metadata == member


def test_metadata_names_the_versions_that_made_it(saved: Path) -> None:
    assert load_checkpoint(saved, CPU).metadata.versions.keys() >= {"kd", "torch", "python"}


def test_classifier_comes_back_with_its_normalisation(tmp_path: Path, tiny: Dataset, metadata: Metadata) -> None:
    data = replace(tiny.info, mean=(0.3,), std=(0.7,))
    classifier = build_classifier(parse_spec("cnn-8"), data).eval()
    path = tmp_path / "teacher.safetensors"
    save_checkpoint(path, classifier.network, replace(metadata, architecture="cnn-8", data=data))
    pixels = to_pixels(tiny.test.images[:3])
    assert torch.equal(load_checkpoint(path, CPU).classifier(pixels), classifier(pixels))


@pytest.mark.parametrize("classes", [2, 37])
def test_network_for_another_number_of_classes_comes_back(tmp_path: Path, metadata: Metadata, classes: int) -> None:
    network = build_network(parse_spec("mlp-8"), classes=classes)
    data = replace(metadata.data, classes=tuple(f"class {number}" for number in range(classes)))
    save_checkpoint(tmp_path / "file", network, replace(metadata, data=data))
    loaded = load_checkpoint(tmp_path / "file", CPU)
    assert_same_weights(loaded.classifier.network, network)
    assert loaded.metadata.data == data


def test_classifier_is_ready_to_use_on_the_device_asked_for(saved: Path) -> None:
    classifier = load_checkpoint(saved, torch.device("meta")).classifier
    assert not classifier.training
    assert {tensor.device.type for tensor in [*classifier.parameters(), *classifier.buffers()]} == {"meta"}


@pytest.mark.parametrize("name", ["student", "x.pth", "x.pt", "x.bin", "x.safetensors.old", "ünï 1"])
def test_checkpoint_may_have_any_name(tmp_path: Path, network: nn.Module, metadata: Metadata, name: str) -> None:
    save_checkpoint(tmp_path / name, network, metadata)
    assert_same_weights(load_checkpoint(tmp_path / name, CPU).classifier.network, network)


@pytest.mark.parametrize("name", ["x.safetensors", "x", "x.pth"])
def test_plain_state_dict_may_have_any_name(tmp_path: Path, network: nn.Module, name: str) -> None:
    torch.save(network.state_dict(), tmp_path / name)
    assert_same_weights(load_checkpoint(tmp_path / name, CPU).classifier.network, network)


@pytest.mark.parametrize("start", [b"PK\0", b"\x80\x02\x01"], ids=["ZIP", "pickle"])
def test_header_may_have_the_length_that_begins_like_another_format(
    tmp_path: Path, network: nn.Module, metadata: Metadata, start: bytes
) -> None:
    """A safetensors file begins with the length of its header."""
    length, path = int.from_bytes(start, "little"), tmp_path / "file"
    save_checkpoint(path, network, replace(metadata, method=""))
    padding = length - int.from_bytes(path.read_bytes()[:8], "little")
    save_checkpoint(path, network, replace(metadata, method="x" * padding))
    assert path.read_bytes()[:8] == length.to_bytes(8, "little")
    assert_same_weights(load_checkpoint(path, CPU).classifier.network, network)


def test_digest_tells_networks_apart_and_not_their_files(
    tmp_path: Path, saved: Path, network: nn.Module, metadata: Metadata
) -> None:
    def digest(name: str, network: nn.Module = network, metadata: Metadata = metadata) -> str:
        save_checkpoint(tmp_path / name, network, metadata)
        return load_checkpoint(tmp_path / name, CPU).digest

    other = build_network(parse_spec("mlp-8"))
    digests = [digest("a"), digest("b", other), digest("c", metadata=replace(metadata, seed=4))]
    assert digest("elsewhere") == digests[0]
    assert len(set(digests)) == 3


def test_digest_of_a_plain_state_dict_tells_its_weights(tmp_path: Path) -> None:
    networks = [build_network(parse_spec("mlp-8")) for _ in range(2)]
    for number, network in enumerate([*networks, networks[0]]):
        torch.save(network.state_dict(), tmp_path / f"{number}.pth")
    first, second, third = (load_checkpoint(tmp_path / f"{number}.pth", CPU).digest for number in range(3))
    assert first == third != second


def test_same_network_is_written_in_the_same_bytes(
    tmp_path: Path, saved: Path, network: nn.Module, metadata: Metadata
) -> None:
    save_checkpoint(tmp_path / "again", network, metadata)
    assert (tmp_path / "again").read_bytes() == saved.read_bytes()


@pytest.fixture
def version_0_1(tmp_path: Path, network: nn.Module) -> Path:
    """A checkpoint as version 0.1 wrote it, with the data in pieces."""
    path = tmp_path / "old.safetensors"
    description = {
        "role": "student",
        "architecture": "mlp-8",
        "dataset": "fashion-mnist",
        "classes": list("abcdefghij"),
        "normalisation": {"mean": 0.286, "std": 0.353},
        "method": "kd",
        "seed": 3,
        "accuracy": 0.5,
        "options": {"epochs": 1, "method": "kd", "temperature": 4},
        "input_size": [28, 28],
        "versions": {"kd": "0.1.0"},
    }
    write(path, description, network.state_dict())
    return path


def test_checkpoint_of_version_0_1_is_read_with_its_data(version_0_1: Path, network: nn.Module) -> None:
    loaded = load_checkpoint(version_0_1, CPU)
    data = DataInfo("fashion-mnist", tuple("abcdefghij"), (1, 28, 28), (0.286,), (0.353,), digest="")
    options = {"epochs": 1, "method": "kd", "temperature": 4}
    assert loaded.metadata == Metadata(
        Role.student, "mlp-8", data, "kd", 3, 0.5, options, ensemble=None, versions={"kd": "0.1.0"}
    )
    assert_same_weights(loaded.classifier.network, network)


def test_checkpoint_of_version_0_1_is_normalised_as_it_was(
    version_0_1: Path, tiny: Dataset, network: nn.Module
) -> None:
    pixels = to_pixels(tiny.test.images[:5])
    logits = load_checkpoint(version_0_1, CPU).classifier(pixels)
    torch.testing.assert_close(logits, network((pixels - 0.286) / 0.353))


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("name", ["digits", "mnist"])
def test_checkpoint_that_ships_is_read_with_its_data(
    shipped: Path, role: Role, name: str, request: pytest.FixtureRequest
) -> None:
    metadata = load_checkpoint(checkpoint_path(shipped, name, role), CPU).metadata
    assert metadata.role is role
    dataset: Dataset = request.getfixturevalue(name)
    assert metadata.data == replace(dataset.info, digest="" if name == "digits" else dataset.info.digest)


def test_missing_checkpoint_says_how_to_train_one(tmp_path: Path) -> None:
    with pytest.raises(KdError, match="train-teacher"):
        load_checkpoint(tmp_path / "missing.safetensors", CPU)


@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_what_is_no_file_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / kind
    if kind == "folder":
        path.mkdir()
    elif hasattr(os, "mkfifo"):
        os.mkfifo(path)  # a reader would wait for ever
    with pytest.raises(KdError, match=r"cannot read|no checkpoint"):
        load_checkpoint(path, CPU)


@pytest.mark.parametrize(
    "metadata_of_the_file", [None, {}, {"format": "pt"}, {METADATA_KEY: "[]"}, {METADATA_KEY: "{"}]
)
def test_foreign_safetensors_file_is_refused(tmp_path: Path, metadata_of_the_file: dict[str, str] | None) -> None:
    save_file({"weight": torch.zeros(3)}, tmp_path / "foreign.safetensors", metadata_of_the_file)
    with pytest.raises(KdError, match=r"no kd checkpoint.*, or say with --arch what it is"):
        load_checkpoint(tmp_path / "foreign.safetensors", CPU)


@pytest.mark.parametrize("size", [0, 1, 7, 8, 100, -1])
def test_truncated_checkpoint_is_refused(saved: Path, size: int) -> None:
    saved.write_bytes(saved.read_bytes()[:size])
    with pytest.raises(KdError, match="damaged"):
        load_checkpoint(saved, CPU)


Change = Callable[[Description], object]


def typical(directions: list[list[float]], least: float) -> Description:
    """What a checkpoint says of confidences."""
    return {"temperature": 1, "typical": {"directions": directions, "least": least}}


HOSTILE: dict[str, Change] = {
    "larger layer": lambda it: it.update(architecture="mlp-9"),
    "another network": lambda it: it.update(architecture="cnn-8"),
    "network that no machine holds": lambda it: it.update(architecture="mlp-65536-65536"),
    "no network": lambda it: it.update(architecture="nonsense"),
    "a network that is a number": lambda it: it.update(architecture=3),
    "unknown role": lambda it: it.update(role="headmaster"),
    "no role": lambda it: it.pop("role"),
    "versions of no kind": lambda it: it.update(versions=3),
    "seed in words": lambda it: it.update(seed="three"),
    "infinite seed": lambda it: it.update(seed=float("inf")),
    "accuracy of no kind": lambda it: it.update(accuracy=[]),
    "options of no kind": lambda it: it.update(options="none"),
    "place in an ensemble of no kind": lambda it: it.update(ensemble=[1, 2, 3]),
    "half a place in an ensemble": lambda it: it.update(ensemble={"identifier": "x"}),
    "confidence of no kind": lambda it: it.update(confidence=0.9),
    "temperature of nothing": lambda it: it.update(confidence={"temperature": 0}),
    "no number for a temperature": lambda it: it.update(confidence={"temperature": float("nan")}),
    "typical outputs of no kind": lambda it: it.update(confidence={"temperature": 1, "typical": 3}),
    "no typical outputs": lambda it: it.update(confidence=typical([], 0.5)),
    "typical outputs of other classes": lambda it: it.update(confidence=typical([[1.0]], 0.5)),
    "no numbers for typical outputs": lambda it: it.update(
        confidence=typical([[float("nan")] * len(it["data"]["classes"])], 0.5)
    ),
    "more than alike": lambda it: it.update(confidence=typical([[0.5] * len(it["data"]["classes"])], 1.5)),
    "no share of the images": lambda it: it["data"].update(test_fraction=float("nan")),
    "all images to test with": lambda it: it["data"].update(test_fraction=1),
    "a share in words": lambda it: it["data"].update(test_fraction="half"),
    "images of no size": lambda it: it["data"].update(image_size=0),
    "no data": lambda it: it.pop("data"),
    "data of no kind": lambda it: it.update(data=None),
    "one class": lambda it: it["data"].update(classes=["0"]),
    "other classes than the weights": lambda it: it["data"].update(classes=["0", "1", "2"]),
    "more classes than any network has": lambda it: it["data"].update(classes=["0"] * 1001),
    "classes of no kind": lambda it: it["data"].update(classes=None),
    "other images": lambda it: it["data"].update(shape=[1, 32, 32]),
    "colour images": lambda it: it["data"].update(shape=[3, 28, 28], mean=[0.0] * 3, std=[1.0] * 3),
    "flat images": lambda it: it["data"].update(shape=[784]),
    "spread of nothing": lambda it: it["data"].update(std=[0]),
    "spread below nothing": lambda it: it["data"].update(std=[-1]),
    "mean that is no number": lambda it: it["data"].update(mean=["NaN"]),
    "infinite spread": lambda it: it["data"].update(std=[float("inf")]),
    "too many channels": lambda it: it["data"].update(mean=[0.1, 0.1], std=[0.3, 0.3]),
    "no channel": lambda it: it["data"].update(mean=[], std=[]),
    "mean of no kind": lambda it: it["data"].update(mean=0.1),
}


@pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE.keys())
def test_metadata_that_cannot_be_true_is_refused_in_one_line(saved: Path, change: Change) -> None:
    description, tensors = read_description(saved), load_file(saved)
    change(description)
    write(saved, description, tensors)
    with pytest.raises(KdError) as caught:
        load_checkpoint(saved, CPU)
    assert "\n" not in str(caught.value)


def test_data_that_do_not_say_how_they_were_divided_are_read(saved: Path) -> None:
    """As those of earlier versions."""
    description = read_description(saved)
    for name in ("image_size", "test_fraction"):
        assert description["data"].pop(name, "") is None
    write(saved, description, load_file(saved))
    data = load_checkpoint(saved, CPU).metadata.data
    assert (data.image_size, data.test_fraction) == (None, None)


def test_description_that_is_sealed_anew_is_read(saved: Path) -> None:
    """So it is what the hostile ones say that has them refused."""
    write(saved, read_description(saved) | {"seed": 77}, load_file(saved))
    assert load_checkpoint(saved, CPU).metadata.seed == 77


@pytest.mark.parametrize("change", [{"seed": 77}, {"method": "kd"}, {"accuracy": 1.0}], ids=str)
def test_changed_description_is_noticed(saved: Path, change: Description) -> None:
    description, tensors = read_description(saved) | change, load_file(saved)
    save_file(tensors, saved, {METADATA_KEY: json.dumps(description)})
    with pytest.raises(KdError, match="damaged"):
        load_checkpoint(saved, CPU)


def test_a_single_changed_weight_is_noticed(saved: Path) -> None:
    content = bytearray(saved.read_bytes())
    content[-1] ^= 1
    saved.write_bytes(content)
    with pytest.raises(KdError, match="damaged"):
        load_checkpoint(saved, CPU)


def test_weights_of_another_type_are_refused(saved: Path, network: nn.Module, metadata: Metadata) -> None:
    save_checkpoint(saved, network.half(), metadata)
    with pytest.raises(KdError, match="not the network"):
        load_checkpoint(saved, CPU)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("plain", [False, True], ids=["own", "plain"])
def test_weights_that_are_no_numbers_are_refused(
    tmp_path: Path, network: nn.Module, metadata: Metadata, value: float, plain: bool
) -> None:
    with torch.no_grad():
        next(network.parameters())[0, 0] = value
    if plain:
        torch.save(network.state_dict(), tmp_path / "file")
    else:
        save_checkpoint(tmp_path / "file", network, metadata)
    with pytest.raises(KdError, match="not finite"):
        load_checkpoint(tmp_path / "file", CPU)


def test_checkpoint_is_recognised_by_its_header(
    tmp_path: Path, saved: Path, version_0_1: Path, network: nn.Module
) -> None:
    assert is_checkpoint(saved)
    assert is_checkpoint(version_0_1)
    torch.save(network.state_dict(), tmp_path / "plain.pth")
    save_file(network.state_dict(), tmp_path / "foreign.safetensors")
    (tmp_path / "text").write_text("a thesis")
    others = [tmp_path / name for name in ("plain.pth", "foreign.safetensors", "text", "not there")]
    assert [is_checkpoint(path) for path in others] == [False] * 4


class Trap:
    """Unpickling it makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pt"])
@pytest.mark.parametrize("writer", ["pickle 2", "pickle 4", "torch", "old torch"])
def test_pickle_in_a_checkpoint_is_never_executed(tmp_path: Path, writer: str, suffix: str) -> None:
    path, trap = tmp_path / f"hostile{suffix}", Trap(tmp_path / "sprung")
    if writer.startswith("pickle"):
        path.write_bytes(pickle.dumps(trap, protocol=int(writer[-1])))
    else:
        torch.save(trap, path, _use_new_zipfile_serialization=writer == "torch")
    with pytest.raises(KdError):
        load_checkpoint(path, CPU)
    assert not trap.folder.exists()


def test_what_was_trained_here_wins_over_what_ships(tmp_path: Path) -> None:
    trained = checkpoint_path(tmp_path, "mnist", Role.student)
    assert find_checkpoint(tmp_path, "mnist", Role.student) != trained
    trained.parent.mkdir()
    trained.touch()
    assert find_checkpoint(tmp_path, "mnist", Role.student) == trained


def test_checkpoint_knows_whether_it_ships(saved: Path) -> None:
    assert load_checkpoint(find_checkpoint(saved.parent, "mnist", Role.student), CPU).shipped
    assert not load_checkpoint(saved, CPU).shipped


@pytest.mark.parametrize(
    ("role", "command"),
    [(Role.teacher, "kd train-teacher --dataset kmnist"), (Role.student, "kd distill --dataset kmnist")],
)
def test_data_set_without_any_checkpoint_says_how_to_train_one(tmp_path: Path, role: Role, command: str) -> None:
    with pytest.raises(KdError, match=command):
        find_checkpoint(tmp_path, "kmnist", role)


def test_checkpoint_is_written_whole_or_not_at_all(
    saved: Path, network: nn.Module, metadata: Metadata, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = saved.read_bytes()

    def full_disk(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(KdError, match="No space left"):
        save_checkpoint(saved, build_network(parse_spec("mlp-8")), metadata)
    assert [(path.name, path.read_bytes()) for path in saved.parent.iterdir()] == [(saved.name, before)]


@pytest.mark.skipif(sys.platform != "linux", reason="measures memory as Linux counts it")
def test_header_that_claims_terabytes_is_refused_before_memory_is_given_out(saved: Path, metadata: Metadata) -> None:
    header = {
        "__metadata__": {METADATA_KEY: json.dumps(asdict(metadata) | {DIGEST_KEY: ""})},
        "fc1.weight": {"dtype": "F32", "shape": [1 << 20, 1 << 20], "data_offsets": [0, 1 << 42]},
    }
    encoded = json.dumps(header).encode()
    saved.write_bytes(len(encoded).to_bytes(8, "little") + encoded + bytes(64))
    program = (
        "import resource, sys, torch\n"
        "from pathlib import Path\n"
        "from kd_cli.networks.checkpoint import load_checkpoint\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try: load_checkpoint(Path(sys.argv[1]), torch.device('cpu'))\n"
        "except Exception as error: print(type(error).__name__)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    answer = subprocess.run([sys.executable, "-c", program, saved], capture_output=True, text=True, check=True).stdout
    error, kilobytes = answer.split()
    assert error == "KdError"
    assert int(kilobytes) < 50_000
