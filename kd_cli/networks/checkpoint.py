"""Networks on disk: safetensors with everything needed to use them again, written whole or not at all."""

import hashlib
import json
import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from kd_cli.config import IMAGENET_MEAN, IMAGENET_STD, ConfigError, KdError, Precision, Role
from kd_cli.data.dataset import DataInfo
from kd_cli.data.sources import DIGITS
from kd_cli.files import require_regular, write_atomically
from kd_cli.networks.build import build_empty, fill
from kd_cli.networks.classifier import Classifier, compute_logits, count_parameters
from kd_cli.networks.metadata import Metadata, parse_metadata
from kd_cli.networks.onnx_file import is_onnx
from kd_cli.networks.reference import IMAGE_SHAPE
from kd_cli.networks.spec import Spec, parse_spec
from kd_cli.networks.state_dicts import (
    convert,
    count_classes,
    describe_misfit,
    is_exported_program,
    is_torch_file,
    layout_of,
    read_layout,
    read_weights,
    recognise,
)
from kd_cli.networks.trust import require_trusted
from kd_cli.networks.zoo import source_digest

log = logging.getLogger(__name__)

METADATA_KEY = "kd"
DIGEST_KEY = "sha256"
MAX_CLASSES = 100_000

NOT_AS_EXPECTED = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""What it raises to use values of a file that anybody may have written."""

ASSUMED_DATA = DataInfo("mnist", DIGITS, IMAGE_SHAPE, (0.1307,), (0.3081,), digest="")
"""What a plain state dict is taken to have been trained on where nothing else is known."""


@dataclass(frozen=True)
class Reading:
    """What a user says of files that do not say it themselves.

    Attributes:
        architecture: of plain state dicts; None where it is to be told from their layers.
        data: what they were trained on.
        mean: of each channel of the pixels that they were trained on, on a scale where white is 1; one may stand for
            all. Default: the data's.
        std: their standard deviations, likewise.
        trust: the files and modules of users' networks that may be run.
        prefix: of the options that say so.
    """

    architecture: Spec | None = None
    data: DataInfo | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    trust: tuple[str, ...] = ()
    prefix: str = "--"


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

    @property
    def parameters(self) -> int:
        """How many trainable values the network has."""
        return count_parameters(self.classifier)

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one image."""
        return self.classifier.macs

    @property
    def precision(self) -> Precision:
        """The numbers that it computes with."""
        return Precision.float32

    def compute_logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Logits, (N, classes), of images, (N, C, H, W), computed on the network's device in bounded memory."""
        place = next(self.classifier.parameters()).device
        with torch.inference_mode():
            logits: NDArray[np.float32] = (
                compute_logits(self.classifier, torch.from_numpy(images).to(place)).cpu().numpy()
            )
        return logits

    def with_classes(self, classes: tuple[str, ...]) -> "Checkpoint":
        """The same network for data that count the same classes in another order."""
        order = tuple(map(self.metadata.data.classes.index, classes))
        return replace(
            self,
            classifier=self.classifier.reorder(order),
            metadata=self.metadata.with_classes(classes),
            digest=compute_digest({"checkpoint": self.digest, "order": order}, {}),
        )


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
    # Copies: safetensors takes no tensors that share their memory, as tied weights do.
    tensors = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in network.state_dict().items()
    }
    description = asdict(metadata)
    sealed = json.dumps(description | {DIGEST_KEY: compute_digest(description, tensors)})
    # One entry only: safetensors writes several in random order, and the same run shall write the same bytes.
    write_atomically(path, save(tensors, {METADATA_KEY: sealed}))


def load_checkpoint(path: Path, device: torch.device, reading: Reading = Reading()) -> Checkpoint:
    """Read a classifier. Nothing in the file is executed, and its shapes are checked before memory is given out.

    The content decides what the file is, not its name: a checkpoint of this program, or a plain state dict.

    Raises:
        KdError: the file is missing, damaged, or not a network that this program can build; it is a user's network that
            is not trusted; or its weights are not all finite.
    """
    with _readable(path):
        if is_exported_program(path) if is_torch_file(path) else is_onnx(path):
            raise KdError(f"{path} is an exported file, without layers to work on: use the checkpoint it came from")
        # A safetensors file without our description may be a checkpoint that was damaged: the user says that it is not.
        plain = is_torch_file(path) or (reading.architecture is not None and is_plain(path))
        network, metadata, digest = (_read_plain if plain else _read_own)(path, reading)
    if not all(tensor.isfinite().all() for tensor in network.state_dict().values()):
        raise KdError(f"{path} holds weights that are not finite numbers: train it again")
    classifier = Classifier(network, metadata.data.mean, metadata.data.std, metadata.data.shape)
    return Checkpoint(classifier.to(device).eval(), metadata, path, digest)


def require_readable(path: Path) -> None:
    """Refuse a checkpoint that is not there, before anything slow.

    Raises:
        KdError: as `load_checkpoint`.
    """
    with _readable(path), open(path, "rb"):
        pass


def read_own_weights(path: Path) -> tuple[Metadata, dict[str, Tensor], str]:
    """What a checkpoint of this program says, its weights, and its digest; its network is not built.

    Raises:
        KdError: the file is missing, damaged or no checkpoint.
    """
    with _readable(path), _not_damaged(path), safe_open(path, framework="pt") as file:
        description = json.loads((file.metadata() or {})[METADATA_KEY])
        digest = str(description.pop(DIGEST_KEY))
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if digest != compute_digest(description, weights):
            raise ValueError("changed since it was written")
        return parse_metadata(description), weights, digest


def is_checkpoint(path: Path) -> bool:
    """Whether this program wrote a file, as far as its header tells."""
    try:
        with safe_open(path, framework="pt") as file:
            return METADATA_KEY in (file.metadata() or {})
    except (OSError, SafetensorError):
        return False


def is_plain(path: Path) -> bool:
    """Whether a file is a state dict of another program, as far as its beginning tells.

    Raises:
        OSError: it cannot be opened.
    """
    if is_torch_file(path):
        return True
    try:
        with safe_open(path, framework="pt") as file:
            return METADATA_KEY not in (file.metadata() or {})
    except SafetensorError:
        return False


def compute_digest(description: dict[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """A SHA-256 of all that a checkpoint says, so that a file that was changed is not taken for the one written."""
    digest = hashlib.sha256(json.dumps(description).encode())
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _read_own(path: Path, reading: Reading) -> tuple[nn.Module, Metadata, str]:
    with _not_damaged(path, f", or say with {reading.prefix}arch what it is"), safe_open(path, framework="pt") as file:
        metadata = parse_metadata(json.loads((file.metadata() or {})[METADATA_KEY]))
        spec = parse_spec(metadata.architecture)
    spec = require_trusted(path, spec, reading.trust)
    shape, classes = metadata.data.shape, _require_count(path, len(metadata.data.classes))
    network = build_empty(spec, shape, classes)
    if read_layout(path) != layout_of(network):
        raise KdError(f"{path} is not the network that its description says: train it again")
    metadata, weights, digest = read_own_weights(path)
    if spec.is_own and metadata.source != source_digest(spec.source):
        log.warning("%s has changed since %s was trained: it may compute something else now", spec.source, path)
    return fill(network, spec, shape, classes, weights), metadata, digest


def _read_plain(path: Path, reading: Reading) -> tuple[nn.Module, Metadata, str]:
    found, data = read_layout(path), reading.data or ASSUMED_DATA
    if reading.architecture is None:
        spec, classes = recognise(path, found, f"{reading.prefix}arch")
    else:
        spec = reading.architecture
        classes = len(data.classes) if reading.data else count_classes(found)
    network = build_empty(spec, data.shape, _require_count(path, classes))
    expected = layout_of(network)
    if misfit := describe_misfit(expected, found):
        raise KdError(f"{path} is not {spec} for {classes} classes of {data.shape} images: {misfit}")
    weights = convert(read_weights(path), expected)
    std = IMAGENET_STD if reading.std is None and reading.mean == IMAGENET_MEAN else reading.std
    if classes != len(data.classes):
        data = replace(data, classes=tuple(map(str, range(classes))))
    data = replace(
        data,
        mean=for_each_channel(reading.mean, data.mean, f"{reading.prefix}mean"),
        std=for_each_channel(std, data.std, f"{reading.prefix}std"),
    )
    log.warning(
        "%s does not say what it was trained on: assumed %s, pixels with mean %s and standard deviation %s "
        "(%smean and %sstd say otherwise)",
        *(path, data.name, _join(data.mean), _join(data.std), reading.prefix, reading.prefix),
    )
    metadata = Metadata(
        role=Role.student if spec.family == "mlp" else Role.teacher,
        architecture=str(spec),
        data=data,
        method="unknown",
        seed=0,
        accuracy=math.nan,
        options={},
        assumed=True,
        versions={},
    )
    described = {"architecture": str(spec), "mean": data.mean, "std": data.std, "classes": data.classes}
    return fill(network, spec, data.shape, classes, weights), metadata, compute_digest(described, weights)


def for_each_channel(given: tuple[float, ...] | None, default: tuple[float, ...], flag: str) -> tuple[float, ...]:
    """What ``flag`` gives: a number for each channel, one for all of them, or nothing, which leaves the default.

    Raises:
        ConfigError: another number of them.
    """
    values = default if given is None else given * len(default) if len(given) == 1 else given
    if len(values) != len(default):
        raise ConfigError(f"{flag} {_join(values)}: the images have {len(default)} channels; give as many numbers")
    return values


def _join(values: tuple[float, ...]) -> str:
    return ",".join(f"{value:g}" for value in values)


def _require_count(path: Path, classes: int) -> int:
    if not 2 <= classes <= MAX_CLASSES:
        raise KdError(f"{path} tells {classes} classes apart: use a network for 2 to {MAX_CLASSES:,}")
    return classes


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    require_regular(path)
    try:
        yield
    except FileNotFoundError as error:
        raise KdError(
            f"no checkpoint {path}: check the path, or train one with kd train-teacher or kd distill"
        ) from error
    except OSError as error:
        raise KdError(f"cannot read {path}: {error.strerror or error}; check the path") from error


@contextmanager
def _not_damaged(path: Path, advice: str = "") -> Iterator[None]:
    try:
        yield
    except (SafetensorError, ConfigError, *NOT_AS_EXPECTED) as error:
        raise KdError(
            f"{path} is damaged or no kd checkpoint: use a file that kd train-teacher or kd distill wrote{advice}"
        ) from error
