import json
import os
import pickle
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from kd_cli.checkpoint import METADATA_KEY, SEAL_KEY, Metadata, find, load_checkpoint, path_for, save_checkpoint, seal
from kd_cli.files import require_writable, write_atomically
from kd_cli.networks import Network, build
from kd_cli.settings import DatasetName, KdError, Role, parse_spec

CPU = torch.device("cpu")


@pytest.fixture
def network() -> Network:
    torch.manual_seed(0)
    return build(parse_spec("mlp-8"))


@pytest.fixture
def saved(tmp_path: Path, network: Network, metadata: Metadata) -> Path:
    path = tmp_path / "student.safetensors"
    save_checkpoint(path, network, metadata)
    return path


def rewrite(path: Path, **changes: Any) -> None:
    """Change single entries of a checkpoint's metadata, and seal it anew, as a hostile writer would."""
    tensors = load_file(path)
    with safe_open(path, framework="pt") as file:
        description = json.loads(file.metadata()[METADATA_KEY]) | changes
    del description[SEAL_KEY]
    sealed = description | {SEAL_KEY: seal(description, tensors)}
    save_file(tensors, path, {METADATA_KEY: json.dumps(sealed)})


def test_network_comes_back_to_the_bit(saved: Path, network: Network) -> None:
    loaded = load_checkpoint(saved, CPU).network
    for name, tensor in network.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)


def test_metadata_comes_back_whole(saved: Path, metadata: Metadata) -> None:
    assert load_checkpoint(saved, CPU).metadata == metadata


def test_metadata_names_the_versions_that_made_it(saved: Path) -> None:
    assert load_checkpoint(saved, CPU).metadata.versions.keys() >= {"kd", "torch"}


def test_convolutional_network_comes_back_to_the_bit(tmp_path: Path, teacher: Network, metadata: Metadata) -> None:
    path = tmp_path / "teacher.safetensors"
    save_checkpoint(path, teacher, replace(metadata, architecture="cnn-8"))
    images = torch.randn(3, 1, 28, 28)
    assert torch.equal(load_checkpoint(path, CPU).network(images), teacher(images))


def test_missing_checkpoint_says_how_to_train_one(tmp_path: Path) -> None:
    with pytest.raises(KdError, match="train-teacher"):
        load_checkpoint(tmp_path / "missing.safetensors", CPU)


def test_foreign_safetensors_file_is_refused(tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(3)}, tmp_path / "foreign.safetensors")
    with pytest.raises(KdError, match="no kd checkpoint"):
        load_checkpoint(tmp_path / "foreign.safetensors", CPU)


@pytest.mark.parametrize("size", [0, 7, 100, -1])
def test_truncated_checkpoint_is_refused(saved: Path, size: int) -> None:
    saved.write_bytes(saved.read_bytes()[:size])
    with pytest.raises(KdError, match="damaged"):
        load_checkpoint(saved, CPU)


@pytest.mark.parametrize(
    "changes",
    [
        {"architecture": "mlp-9"},
        {"architecture": "cnn-8"},
        {"architecture": "mlp-65536-65536"},
        {"architecture": "nonsense"},
        {"classes": ["0"]},
        {"classes": ["0", "1", "2"]},
        {"classes": None},
        {"dataset": "auto"},
        {"dataset": "imagenet"},
        {"role": "headmaster"},
        {"normalisation": {"mean": 0.1, "std": 0}},
        {"normalisation": {"mean": "NaN", "std": 1}},
        {"input_size": [32, 32]},
        {"versions": 3},
    ],
    ids=str,
)
def test_metadata_that_cannot_be_true_is_refused(saved: Path, changes: dict[str, Any]) -> None:
    rewrite(saved, **changes)
    with pytest.raises(KdError):
        load_checkpoint(saved, CPU)


def test_a_single_changed_weight_is_noticed(saved: Path) -> None:
    content = bytearray(saved.read_bytes())
    content[-1] ^= 1
    saved.write_bytes(content)
    with pytest.raises(KdError, match="damaged"):
        load_checkpoint(saved, CPU)


@pytest.mark.parametrize("spec", ["cnn-32", "mlp-128", "mlp-16-8"])
def test_plain_state_dict_is_recognised_by_its_layers(tmp_path: Path, spec: str) -> None:
    network = build(parse_spec(spec)).eval()
    torch.save(network.state_dict(), tmp_path / "plain.pth")
    loaded = load_checkpoint(tmp_path / "plain.pth", CPU)
    images = torch.randn(3, 1, 28, 28)
    assert loaded.metadata.architecture == spec
    assert torch.equal(loaded.network(images), network(images))


@pytest.mark.parametrize(
    "content",
    [
        {"weight": torch.zeros(3)},
        {"conv1.weight": torch.zeros(8, 3, 5, 5)},
        {"fc1.weight": torch.zeros(128, 784)},
        {"fc1.weight": "not a tensor"},
        torch.zeros(3),
        [],
        {},
    ],
    ids=["foreign", "colour", "incomplete", "text", "tensor", "list", "empty"],
)
def test_plain_file_of_anything_else_is_refused(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "foreign.pth")
    with pytest.raises(KdError, match=r"foreign\.pth"):
        load_checkpoint(tmp_path / "foreign.pth", CPU)


def test_weights_of_another_type_are_refused(saved: Path, network: Network, metadata: Metadata) -> None:
    save_checkpoint(saved, network.half(), metadata)
    with pytest.raises(KdError, match="32-bit"):
        load_checkpoint(saved, CPU)


class Trap:
    """Unpickling it makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pt"])
@pytest.mark.parametrize("writer", ["pickle", "torch"])
def test_pickle_in_a_checkpoint_is_never_executed(tmp_path: Path, writer: str, suffix: str) -> None:
    path, trap = tmp_path / f"hostile{suffix}", Trap(tmp_path / "sprung")
    if writer == "pickle":
        path.write_bytes(pickle.dumps(trap))
    else:
        torch.save(trap, path)
    with pytest.raises(KdError):
        load_checkpoint(path, CPU)
    assert not trap.folder.exists()


def test_what_was_trained_here_wins_over_what_ships(tmp_path: Path) -> None:
    trained = path_for(tmp_path, DatasetName.mnist, Role.student)
    assert find(tmp_path, DatasetName.mnist, Role.student) != trained
    trained.parent.mkdir()
    trained.touch()
    assert find(tmp_path, DatasetName.mnist, Role.student) == trained


def test_data_set_without_any_checkpoint_says_how_to_train_one(tmp_path: Path) -> None:
    with pytest.raises(KdError, match="kd train-teacher --dataset kmnist"):
        find(tmp_path, DatasetName.kmnist, Role.teacher)


def test_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def full_disk(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(KdError, match=rf"{path}.*No space left"):
        write_atomically(path, b"new")
    assert [(each.name, each.read_bytes()) for each in tmp_path.iterdir()] == [("file", b"old")]


@pytest.mark.skipif(os.name != "posix", reason="Windows has no umask")
def test_written_file_has_the_permissions_that_any_new_file_has(tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    write_atomically(tmp_path / "ours", b"")
    assert stat.S_IMODE((tmp_path / "ours").stat().st_mode) == stat.S_IMODE((tmp_path / "usual").stat().st_mode)


def test_place_that_cannot_be_written_is_found_out_beforehand(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(KdError, match="choose another place"):
        require_writable(tmp_path / "file" / "student.safetensors")


def test_asking_whether_a_place_can_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    require_writable(tmp_path / "file")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="measures memory as Linux counts it")
def test_header_that_claims_terabytes_is_refused_before_memory_is_given_out(saved: Path) -> None:
    header = {
        "__metadata__": {METADATA_KEY: "{}"},
        "fc1.weight": {"dtype": "F32", "shape": [1 << 20, 1 << 20], "data_offsets": [0, 1 << 42]},
    }
    encoded = json.dumps(header).encode()
    saved.write_bytes(len(encoded).to_bytes(8, "little") + encoded + bytes(64))
    program = (
        "import resource, sys, torch; from pathlib import Path; from kd_cli.checkpoint import load_checkpoint\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try: load_checkpoint(Path(sys.argv[1]), torch.device('cpu'))\n"
        "except Exception as error: print(type(error).__name__)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    answer = subprocess.run([sys.executable, "-c", program, saved], capture_output=True, text=True, check=True).stdout
    error, kilobytes = answer.split()
    assert error == "KdError"
    assert int(kilobytes) < 50_000
