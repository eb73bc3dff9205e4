"""What a checkpoint says of itself, and how it is read from a file that anybody may have written. Free of torch."""

import math
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from kd_cli.config import DataConfig, Role
from kd_cli.data.dataset import DataInfo
from kd_cli.version import __version__

MAX_SHAPE = (16, 4096, 4096)
"""Channels, height and width that an image may have."""


@dataclass(frozen=True)
class Membership:
    """A teacher's place in an ensemble; members of one ensemble, and no others, share the identifier."""

    identifier: str
    number: int
    size: int


@dataclass(frozen=True)
class Typical:
    """Which outputs a network has for images like those that it learnt; found by `evaluation.typical`.

    Attributes:
        directions: of logits, a few for each class: less their mean, and of length 1.
        least: the cosine between an image's logits and the nearest direction is seldom less.
    """

    directions: tuple[tuple[float, ...], ...]
    least: float


@dataclass(frozen=True)
class Confidence:
    """What makes a network's confidences worth more; fitted by `evaluation.confidence`.

    Attributes:
        temperature: what logits are divided by before they become probabilities.
        typical: None where there are too many classes, and in checkpoints of earlier versions.
    """

    temperature: float
    typical: Typical | None = None

    def reordered(self, order: Sequence[int]) -> "Confidence":
        """The same for logits in another order; for each of them, its number now."""
        if self.typical is None:
            return self
        directions = tuple(tuple(each[i] for i in order) for each in self.typical.directions)
        return replace(self, typical=replace(self.typical, directions=directions))


def _list_versions() -> dict[str, str]:
    import torch  # who trained a network has it; who only reads what a file says need not

    return {"kd": __version__, "torch": torch.__version__, "python": platform.python_version()}


@dataclass(frozen=True)
class Metadata:
    """What a checkpoint says of itself: what the network takes, and how it came about.

    ``assumed`` is whether the file does not say it, so that the program does; ``source`` the digest of the file that a
    user's network was made by. ``confidence`` is None in checkpoints of earlier versions.
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
    source: str | None = None
    confidence: Confidence | None = None
    versions: dict[str, str] = field(default_factory=_list_versions)

    def with_classes(self, classes: tuple[str, ...]) -> "Metadata":
        """The same for data that count the same classes in another order."""
        order = [self.data.classes.index(name) for name in classes]
        confidence = self.confidence and self.confidence.reordered(order)
        return replace(self, data=replace(self.data, classes=classes), confidence=confidence)


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


def parse_metadata(raw: dict[str, Any]) -> Metadata:
    """Metadata from a file that anybody may have written.

    Raises:
        KeyError, TypeError, ValueError, ConfigError: something is missing, of the wrong kind, or out of bounds.
    """
    raw = _upgrade(raw)
    ensemble = raw["ensemble"]
    return Metadata(
        role=Role(raw["role"]),
        architecture=str(raw["architecture"]),
        data=_parse_data(raw["data"]),
        method=str(raw["method"]),
        seed=int(raw["seed"]),
        accuracy=math.nan if raw["accuracy"] is None else float(raw["accuracy"]),
        options=dict(raw["options"]),
        ensemble=None
        if ensemble is None
        else Membership(str(ensemble["identifier"]), int(ensemble["number"]), int(ensemble["size"])),
        assumed=bool(raw.get("assumed", False)),
        source=None if raw.get("source") is None else str(raw["source"]),
        confidence=_parse_confidence(raw.get("confidence"), len(raw["data"]["classes"])),
        versions=dict(raw["versions"]),
    )


def _parse_confidence(raw: dict[str, Any] | None, classes: int) -> Confidence | None:
    if raw is None:
        return None
    confidence = Confidence(float(raw["temperature"]), _parse_typical(raw.get("typical"), classes))
    if not 0 < confidence.temperature < math.inf:
        raise ValueError("an impossible temperature")
    return confidence


def _parse_typical(raw: dict[str, Any] | None, classes: int) -> Typical | None:
    if raw is None:
        return None
    directions = tuple(tuple(float(value) for value in each) for each in raw["directions"])
    typical = Typical(directions, float(raw["least"]))
    finite = all(math.isfinite(value) for each in directions for value in each)
    if not (directions and {len(each) for each in directions} == {classes} and finite and -1 <= typical.least <= 1):
        raise ValueError("impossible typical outputs")
    return typical


def _parse_data(raw: dict[str, Any]) -> DataInfo:
    data = DataInfo(
        name=str(raw["name"]),
        classes=tuple(str(name) for name in raw["classes"]),
        shape=tuple(int(size) for size in raw["shape"]),  # type: ignore[arg-type]
        mean=tuple(float(value) for value in raw["mean"]),
        std=tuple(float(value) for value in raw["std"]),
        digest=str(raw["digest"]),
        image_size=None if raw.get("image_size") is None else int(raw["image_size"]),
        test_fraction=None if raw.get("test_fraction") is None else float(raw["test_fraction"]),
    )
    DataConfig(image_size=data.image_size, test_fraction=data.test_fraction)  # which checks their bounds
    if len(data.shape) != 3 or not all(1 <= size <= most for size, most in zip(data.shape, MAX_SHAPE, strict=True)):
        raise ValueError("a shape that no image has")
    if not len(data.mean) == len(data.std) == data.shape[0]:
        raise ValueError("a normalisation for another number of channels")
    if not all(abs(mean) < 1e3 and 1e-6 < std < 1e3 for mean, std in zip(data.mean, data.std, strict=True)):
        raise ValueError("an impossible normalisation")
    return data
