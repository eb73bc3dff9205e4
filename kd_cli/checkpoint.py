"""Networks on disk: safetensors with everything needed to use them again, written whole or not at all."""

import json
import platform
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from kd_cli import __version__
from kd_cli.data import IMAGE_SIZE, Normalisation
from kd_cli.files import write_atomically
from kd_cli.networks import Network, build
from kd_cli.settings import DatasetName, KdError, Role, parse_spec

METADATA_KEY = "kd"
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
    write_atomically(path, save(tensors, {METADATA_KEY: json.dumps(asdict(metadata))}))


def load_checkpoint(path: Path, device: torch.device) -> Checkpoint:
    """Read a network. Nothing in the file is executed, and its shapes are checked before memory is given out.

    Raises:
        KdError: the file is missing, damaged, or not a checkpoint of this program.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = _parse_metadata((file.metadata() or {})[METADATA_KEY])
            with torch.device("meta"):  # shapes without memory
                network = build(parse_spec(metadata.architecture), len(metadata.classes))
            expected = {name: list(tensor.shape) for name, tensor in network.state_dict().items()}
            if expected != {name: file.get_slice(name).get_shape() for name in file.keys()}:  # noqa: SIM118
                raise KdError(f"{path} is not the {metadata.architecture} that it says it is: train it again")
            if any(file.get_slice(name).get_dtype() != "F32" for name in expected):
                raise KdError(f"{path} does not hold 32-bit floating-point weights: train it again")
            network.load_state_dict({name: file.get_tensor(name) for name in expected}, assign=True)
    except FileNotFoundError:
        raise KdError(
            f"no checkpoint {path}: check the path, or train one with kd train-teacher or kd distill"
        ) from None
    except OSError as error:
        raise KdError(f"cannot read {path}: {error.strerror or error}; check the path") from None
    except (SafetensorError, ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError):
        raise KdError(
            f"{path} is damaged or no kd checkpoint: use a file that kd train-teacher or kd distill wrote"
        ) from None
    return Checkpoint(network.to(device).eval(), metadata, path)


def _parse_metadata(text: str) -> Metadata:
    """Metadata from a file that anybody may have written.

    Raises:
        KeyError, TypeError, ValueError: something is missing or of the wrong kind.
    """
    raw = json.loads(text)
    classes = tuple(str(name) for name in raw["classes"])
    if not 2 <= len(classes) <= MAX_CLASSES:
        raise ValueError("an impossible number of classes")
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
