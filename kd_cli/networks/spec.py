"""Architecture specs: a network as a word, e.g. ``cnn-32`` or ``mlp-800-800``. Free of torch."""

import re
from dataclasses import dataclass

from kd_cli.config import ConfigError

MAX_LAYER_SIZE = 65_536
"""Larger layers are refused: a typing slip or a hostile file."""


@dataclass(frozen=True)
class Spec:
    """An architecture: its family and its sizes, e.g. ``cnn-32`` (32 filters), ``mlp-800-800`` (two hidden layers)."""

    family: str
    sizes: tuple[int, ...]

    def __str__(self) -> str:
        return "-".join([self.family, *map(str, self.sizes)])


def parse_spec(text: str) -> Spec:
    """Read an architecture spec: ``cnn-N`` (N filters) or ``mlp-N[-M...]`` (hidden layer sizes).

    Raises:
        ConfigError: the text is no spec, or asks for a layer that is empty or absurdly large.
    """
    if not re.fullmatch(r"cnn-[0-9]{1,6}|mlp(-[0-9]{1,6}){1,16}", text, re.ASCII):
        near = re.fullmatch(r"(cnn|mlp)[ _-]*([0-9]{1,6})", text, re.ASCII | re.IGNORECASE)
        hint = f" (did you mean {near[1].lower()}-{near[2]}?)" if near else ""
        raise ConfigError(f"unknown architecture {text!r}{hint}: use cnn-N, e.g. cnn-32, or mlp-N[-M...], e.g. mlp-128")
    family, *sizes = text.split("-")
    spec = Spec(family, tuple(map(int, sizes)))
    if not all(1 <= size <= MAX_LAYER_SIZE for size in spec.sizes):
        raise ConfigError(f"architecture {text!r}: every size must be between 1 and {MAX_LAYER_SIZE:,}")
    return spec
