"""Networks on disk: safetensors with everything needed to use them again, written whole or not at all."""

import hashlib
import json
import math
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from kd_cli import __version__
from kd_cli.data import IMAGE_SIZE, MNIST_NORMALISATION, Normalisation
from kd_cli.files import write_atomically
from kd_cli.networks import Network, build
from kd_cli.settings import DatasetName, KdError, Role, Spec, parse_spec
from kd_cli.state_dicts import SUFFIXES, read_state_dict

METADATA_KEY = "kd"
SEAL_KEY = "sha256"
MAX_CLASSES = 1_000


@dataclass(frozen=True)
class Metadata:
    """What a checkpoint says of itself: what the network reads, and how it came about."""

    role: Role
    architecture: str
    dataset: DatasetName
    classes: tuple[str, ...]
    normalisation: Normalisation
    method: str
    seed: int
    accuracy: float
    options: dict[str, Any]
    input_size: tuple[int, int] = (IMAGE_SIZE, IMAGE_SIZE)
    versions: dict[str, str] = field(
        default_factory=lambda: {"kd": __version__, "torch": torch.__version__, "python": platform.python_version()}
    )


@dataclass(frozen=True)
class Checkpoint:
    """A network, ready to use in evaluation mode, with its metadata and the file it came from."""

    network: Network
    metadata: Metadata
    path: Path

    @property
    def shipped(self) -> bool:
        """Whether this file came with the package."""
        return self.path.is_relative_to(shipped_models_dir())


def shipped_models_dir() -> Path:
    """Where the weights that come with the package lie: inside it once installed, beside it in a checkout."""
    package = Path(__file__).resolve().parent
    inside = package / "models"
    return inside if inside.is_dir() else package.parent / "models"


def path_for(models_dir: Path, dataset: DatasetName, role: Role) -> Path:
    """Where a checkpoint of this role is saved."""
    return models_dir / dataset.value / f"{role.value}.safetensors"


def find(models_dir: Path, dataset: DatasetName, role: Role) -> Path:
    """The checkpoint trained here, else the one that ships.

    Raises:
        KdError: there is neither; says how to train one.
    """
    trained = path_for(models_dir, dataset, role)
    shipped = path_for(shipped_models_dir(), dataset, role)
    for path in (trained, shipped):
        if path.exists():
            return path
    command = "train-teacher" if role is Role.teacher else "distill"
    raise KdError(
        f"no {role.value} for {dataset.value} in {trained.parent}: run kd {command} --dataset {dataset.value}"
    )


def save_checkpoint(path: Path, network: nn.Module, metadata: Metadata) -> None:
    """Write a network and its metadata to ``path``, atomically.

    Raises:
        KdError: the file cannot be written.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    description = asdict(metadata)
    sealed = json.dumps(description | {SEAL_KEY: seal(description, tensors)})
    # One entry only: safetensors writes several in random order, and the same run shall write the same bytes.
    write_atomically(path, save(tensors, {METADATA_KEY: sealed}))


def load_checkpoint(path: Path, device: torch.device) -> Checkpoint:
    """Read a network. Nothing in the file is executed, and its shapes are checked before memory is given out.

    Raises:
        KdError: the file is missing, damaged, or not a checkpoint of this program.
    """
    try:
        if path.suffix in SUFFIXES:
            network, metadata = _load_plain(path)
        else:
            network, metadata = _load_own(path)
    except FileNotFoundError:
        raise KdError(
            f"no checkpoint {path}: check the path, or train one with kd train-teacher or kd distill"
        ) from None
    except OSError as error:
        raise KdError(f"cannot read {path}: {error.strerror or error}; check the path") from None
    return Checkpoint(network.to(device).eval(), metadata, path)


def seal(description: dict[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """A digest of all that a checkpoint says, so that a file that was changed is not taken for the one written."""
    digest = hashlib.sha256(json.dumps(description).encode())
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].numpy().data)
    return digest.hexdigest()


def _load_own(path: Path) -> tuple[Network, Metadata]:
    try:
        with safe_open(path, framework="pt") as file:
            description = json.loads((file.metadata() or {})[METADATA_KEY])
            written_seal = description.pop(SEAL_KEY)
            metadata = _parse_metadata(description)
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            network = _empty(path, parse_spec(metadata.architecture), len(metadata.classes))
            _require_shapes(path, network, {name: tuple(each.get_shape()) for name, each in slices.items()})
            if any(each.get_dtype() != "F32" for each in slices.values()):
                raise KdError(f"{path} does not hold 32-bit floating-point weights: train it again")
            weights = {name: file.get_tensor(name) for name in slices}
            if written_seal != seal(description, weights):
                raise ValueError("changed since it was written")
            network.load_state_dict(weights, assign=True)
    except (SafetensorError, ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError):
        raise KdError(
            f"{path} is damaged or no kd checkpoint: use a file that kd train-teacher or kd distill wrote"
        ) from None
    return network, metadata


def _load_plain(path: Path) -> tuple[Network, Metadata]:
    spec, classes, weights = read_state_dict(path)
    network = _empty(path, spec, classes)
    _require_shapes(path, network, {name: tuple(tensor.shape) for name, tensor in weights.items()})
    network.load_state_dict(weights, assign=True)
    metadata = Metadata(
        role=Role.teacher if spec.family == "cnn" else Role.student,
        architecture=str(spec),
        dataset=DatasetName.mnist,
        classes=tuple(map(str, range(classes))),
        normalisation=MNIST_NORMALISATION,
        method="unknown",
        seed=0,
        accuracy=math.nan,
        options={},
        versions={},
    )
    return network, metadata


def _empty(path: Path, spec: Spec, classes: int) -> Network:
    """The network of a spec with shapes but without memory."""
    if not 2 <= classes <= MAX_CLASSES:
        raise KdError(f"{path} tells {classes} classes apart: use a network for 2 to {MAX_CLASSES:,}")
    with torch.device("meta"):
        return build(spec, classes)


def _require_shapes(path: Path, network: Network, shapes: dict[str, tuple[int, ...]]) -> None:
    if shapes != {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}:
        raise KdError(f"{path} is not the network that its description says: train it again")


def _parse_metadata(raw: dict[str, Any]) -> Metadata:
    """Metadata from a file that anybody may have written.

    Raises:
        KeyError, TypeError, ValueError: something is missing or of the wrong kind.
    """
    classes = tuple(str(name) for name in raw["classes"])
    mean, std = float(raw["normalisation"]["mean"]), float(raw["normalisation"]["std"])
    if not (abs(mean) < 1e3 and 1e-6 < std < 1e3):
        raise ValueError("an impossible normalisation")
    if tuple(raw["input_size"]) != (IMAGE_SIZE, IMAGE_SIZE):
        raise ValueError("an input size that no network here has")
    return Metadata(
        role=Role(raw["role"]),
        architecture=str(raw["architecture"]),
        dataset=_dataset(raw["dataset"]),
        classes=classes,
        normalisation=Normalisation(mean, std),
        method=str(raw["method"]),
        seed=int(raw["seed"]),
        accuracy=float(raw["accuracy"]),
        options=dict(raw["options"]),
        versions=dict(raw["versions"]),
    )


def _dataset(name: str) -> DatasetName:
    if name == DatasetName.auto.value:
        raise ValueError("auto is no data set that a network could have learnt")
    return DatasetName(name)
