"""Networks on disk: safetensors with everything needed to use them again, written whole or not at all."""

import hashlib
import json
import logging
import math
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from kd_cli import __version__
from kd_cli.config import ConfigError, KdError, Role
from kd_cli.data.dataset import DataInfo
from kd_cli.data.sources import DIGITS
from kd_cli.files import require_regular, write_atomically
from kd_cli.networks.build import build_network
from kd_cli.networks.classifier import Classifier
from kd_cli.networks.reference import IMAGE_SHAPE
from kd_cli.networks.spec import Spec, parse_spec
from kd_cli.networks.state_dicts import is_state_dict, read_state_dict

log = logging.getLogger(__name__)

METADATA_KEY = "kd"
DIGEST_KEY = "sha256"
MAX_CLASSES = 1_000

NOT_AS_EXPECTED = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""What it raises to use values of a file that anybody may have written."""

ASSUMED_DATA = DataInfo("mnist", DIGITS, IMAGE_SHAPE, (0.1307,), (0.3081,), digest="")
"""What a plain state dict, which says nothing of its data, is taken to have been trained on."""


@dataclass(frozen=True)
class Membership:
    """A teacher's place in an ensemble; members of one ensemble, and no others, share the identifier."""

    identifier: str
    number: int
    size: int


@dataclass(frozen=True)
class Metadata:
    """What a checkpoint says of itself: what the network takes, and how it came about.

    ``assumed`` is whether the file does not say it, so that the program does.
    """

    role: Role
    architecture: str
    data: DataInfo
    method: str
    seed: int
    accuracy: float
    options: dict[str, Any]
    ensemble: Membership | None = None
    assumed: bool = False
    versions: dict[str, str] = field(
        default_factory=lambda: {"kd": __version__, "torch": torch.__version__, "python": platform.python_version()}
    )


@dataclass(frozen=True)
class Checkpoint:
    """A classifier, ready to use in evaluation mode, with its metadata, its file, and a digest of all that it says."""

    classifier: Classifier
    metadata: Metadata
    path: Path
    digest: str

    @property
    def shipped(self) -> bool:
        """Whether this file came with the package."""
        return self.path.is_relative_to(shipped_models_dir())


def shipped_models_dir() -> Path:
    """Where the weights that come with the package lie: inside it once installed, beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "models"
    return inside if inside.is_dir() else package.parent / "models"


def checkpoint_path(models_dir: Path, dataset: str, role: Role) -> Path:
    """Where a checkpoint of this role is saved."""
    return models_dir / dataset / f"{role.value}.safetensors"


def find_checkpoint(models_dir: Path, dataset: str, role: Role) -> Path:
    """The checkpoint trained here, else the one that ships.

    Raises:
        KdError: there is neither; says how to train one.
    """
    trained = checkpoint_path(models_dir, dataset, role)
    shipped = checkpoint_path(shipped_models_dir(), dataset, role)
    for path in (trained, shipped):
        if path.exists():
            return path
    command = "train-teacher" if role is Role.teacher else "distill"
    raise KdError(f"no {role.value} for {dataset} in {trained.parent}: run kd {command} --dataset {dataset}")


def save_checkpoint(path: Path, network: nn.Module, metadata: Metadata) -> None:
    """Write a network and its metadata to ``path``, atomically, as safetensors whatever the name's ending.

    Raises:
        KdError: the file cannot be written.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    description = asdict(metadata)
    sealed = json.dumps(description | {DIGEST_KEY: compute_digest(description, tensors)})
    # One entry only: safetensors writes several in random order, and the same run shall write the same bytes.
    write_atomically(path, save(tensors, {METADATA_KEY: sealed}))


def load_checkpoint(
    path: Path, device: torch.device, mean: float | None = None, std: float | None = None
) -> Checkpoint:
    """Read a classifier. Nothing in the file is executed, and its shapes are checked before memory is given out.

    The content decides what the file is, not its name: safetensors of this program, or a plain state dict.

    Args:
        path: the file.
        device: where to compute.
        mean: of the training pixels, from 0 to 1, for a plain state dict, which does not say; else MNIST's.
        std: their standard deviation, likewise.

    Raises:
        KdError: the file is missing, damaged, or not a checkpoint of this program; or its weights are not all finite.
    """
    require_regular(path)
    try:
        network, metadata, digest = _read_plain(path, mean, std) if is_state_dict(path) else _read_own(path)
    except FileNotFoundError as error:
        raise KdError(
            f"no checkpoint {path}: check the path, or train one with kd train-teacher or kd distill"
        ) from error
    except OSError as error:
        raise KdError(f"cannot read {path}: {error.strerror or error}; check the path") from error
    if not all(tensor.isfinite().all() for tensor in network.state_dict().values()):
        raise KdError(f"{path} holds weights that are not finite numbers: train it again")
    classifier = Classifier(network, metadata.data.mean, metadata.data.std, metadata.data.shape)
    return Checkpoint(classifier.to(device).eval(), metadata, path, digest)


def is_checkpoint(path: Path) -> bool:
    """Whether this program wrote a file, as far as its header tells."""
    try:
        with safe_open(path, framework="pt") as file:
            return METADATA_KEY in (file.metadata() or {})
    except (OSError, SafetensorError):
        return False


def compute_digest(description: dict[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """A SHA-256 of all that a checkpoint says, so that a file that was changed is not taken for the one written."""
    digest = hashlib.sha256(json.dumps(description).encode())
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].numpy().data)
    return digest.hexdigest()


def _read_own(path: Path) -> tuple[nn.Module, Metadata, str]:
    try:
        with safe_open(path, framework="pt") as file:
            description = json.loads((file.metadata() or {})[METADATA_KEY])
            written_digest = description.pop(DIGEST_KEY)
            metadata = _parse_metadata(_upgrade(description))
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            spec = parse_spec(metadata.architecture)
            if not spec.is_reference:
                raise KdError(f"{path} holds {spec}: this program does not read such checkpoints yet")
            network = _empty(path, spec, metadata.data.shape, len(metadata.data.classes))
            _require_shapes(path, network, {name: tuple(each.get_shape()) for name, each in slices.items()})
            if any(each.get_dtype() != "F32" for each in slices.values()):
                raise KdError(f"{path} does not hold 32-bit floating-point weights: train it again")
            weights = {name: file.get_tensor(name) for name in slices}
        if written_digest != compute_digest(description, weights):
            raise ValueError("changed since it was written")
    except (SafetensorError, ConfigError, *NOT_AS_EXPECTED) as error:
        raise KdError(
            f"{path} is damaged or no kd checkpoint: use a file that kd train-teacher or kd distill wrote"
        ) from error
    network.load_state_dict(weights, assign=True)
    return network, metadata, written_digest


def _read_plain(path: Path, mean: float | None, std: float | None) -> tuple[nn.Module, Metadata, str]:
    spec, classes, weights = read_state_dict(path)
    network = _empty(path, spec, IMAGE_SHAPE, classes)
    _require_shapes(path, network, {name: tuple(tensor.shape) for name, tensor in weights.items()})
    network.load_state_dict(weights, assign=True)
    data = replace(
        ASSUMED_DATA,
        classes=tuple(map(str, range(classes))),
        mean=ASSUMED_DATA.mean if mean is None else (mean,),
        std=ASSUMED_DATA.std if std is None else (std,),
    )
    log.warning(
        "%s does not say what it was trained on: assumed %s, pixels with mean %g and standard deviation %g "
        "(--mean and --std say otherwise)",
        path,
        data.name,
        *data.mean,
        *data.std,
    )
    metadata = Metadata(
        role=Role.teacher if spec.family == "cnn" else Role.student,
        architecture=str(spec),
        data=data,
        method="unknown",
        seed=0,
        accuracy=math.nan,
        options={},
        assumed=True,
        versions={},
    )
    return network, metadata, compute_digest({"architecture": str(spec)}, weights)


def _empty(path: Path, spec: Spec, shape: tuple[int, int, int], classes: int) -> nn.Module:
    """The network of a spec with shapes but without memory."""
    if not 2 <= classes <= MAX_CLASSES:
        raise KdError(f"{path} tells {classes} classes apart: use a network for 2 to {MAX_CLASSES:,}")
    with torch.device("meta"):
        return build_network(spec, shape, classes)


def _require_shapes(path: Path, network: nn.Module, shapes: dict[str, tuple[int, ...]]) -> None:
    if shapes != {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}:
        raise KdError(f"{path} is not the network that its description says: train it again")


def _upgrade(raw: dict[str, Any]) -> dict[str, Any]:
    """The description of a checkpoint of kd 0.1, which had the data in pieces, in today's form."""
    if "data" in raw:
        return raw
    normalisation = raw["normalisation"]
    data = {
        "name": raw["dataset"],
        "classes": raw["classes"],
        "shape": [1, *raw["input_size"]],
        "mean": [normalisation["mean"]],
        "std": [normalisation["std"]],
        "digest": "",
    }
    return raw | {"data": data, "ensemble": None}


def _parse_metadata(raw: dict[str, Any]) -> Metadata:
    """Metadata from a file that anybody may have written.

    Raises:
        KeyError, TypeError, ValueError: something is missing or of the wrong kind.
    """
    ensemble = raw["ensemble"]
    return Metadata(
        role=Role(raw["role"]),
        architecture=str(raw["architecture"]),
        data=_parse_data(raw["data"]),
        method=str(raw["method"]),
        seed=int(raw["seed"]),
        accuracy=float(raw["accuracy"]),
        options=dict(raw["options"]),
        ensemble=None
        if ensemble is None
        else Membership(str(ensemble["identifier"]), int(ensemble["number"]), int(ensemble["size"])),
        versions=dict(raw["versions"]),
    )


def _parse_data(raw: dict[str, Any]) -> DataInfo:
    data = DataInfo(
        name=str(raw["name"]),
        classes=tuple(str(name) for name in raw["classes"]),
        shape=tuple(int(size) for size in raw["shape"]),  # type: ignore[arg-type]
        mean=tuple(float(value) for value in raw["mean"]),
        std=tuple(float(value) for value in raw["std"]),
        digest=str(raw["digest"]),
    )
    if data.shape != IMAGE_SHAPE:
        raise ValueError("a shape that no network here takes")
    if not len(data.mean) == len(data.std) == data.shape[0]:
        raise ValueError("a normalisation for another number of channels")
    if not all(abs(mean) < 1e3 and 1e-6 < std < 1e3 for mean, std in zip(data.mean, data.std, strict=True)):
        raise ValueError("an impossible normalisation")
    return data
