"""What a worker tells the server: one event a line, as JSON."""

import dataclasses
import json
import types
import typing
from dataclasses import dataclass
from typing import Any

from kd_cli.commands.results import BenchmarkResult, TrainingResult


@dataclass(frozen=True)
class Began:
    """A training run starts."""

    total_steps: int


@dataclass(frozen=True)
class Progressed:
    """Mean loss, and accuracy, on the training images of the latest steps up to this one."""

    step: int
    loss: float
    accuracy: float


@dataclass(frozen=True)
class Evaluated:
    """The accuracy on the test set after an epoch, which ended with this step."""

    step: int
    accuracy: float


@dataclass(frozen=True)
class Trained:
    """A training run is over."""

    result: TrainingResult


@dataclass(frozen=True)
class Measured:
    """A measurement is over."""

    result: BenchmarkResult


@dataclass(frozen=True)
class Failed:
    """The work came to nothing; the message says why."""

    message: str


Outcome = Trained | Measured | Failed
"""How work ends: the last event of every worker."""

Event = Began | Progressed | Evaluated | Outcome

KINDS: dict[str, type[Any]] = {kind.__name__: kind for kind in typing.get_args(Event)}


def encode(event: Event) -> str:
    """An event as a line, without its end."""
    return json.dumps({"event": type(event).__name__} | dataclasses.asdict(event))


def decode(line: str) -> Event | None:
    """The event that a line holds; None for a line that holds none, such as what a library prints."""
    try:
        raw = json.loads(line)
        event: Event = _restore(KINDS[raw.pop("event")], raw)
    except (ValueError, LookupError, TypeError, AttributeError):
        return None
    return event


def _restore(kind: Any, value: Any) -> Any:
    """A value as its type has it: JSON knows neither dataclasses nor tuples.

    Raises:
        TypeError, LookupError, AttributeError: the value has another form.
    """
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        return kind(**{name: _restore(hints[name], each) for name, each in value.items()})  # type: ignore[operator]
    if isinstance(kind, types.UnionType):
        return value if value is None else _restore(typing.get_args(kind)[0], value)  # X | None
    if typing.get_origin(kind) is tuple:
        return tuple(_restore(typing.get_args(kind)[0], each) for each in value)
    return value
