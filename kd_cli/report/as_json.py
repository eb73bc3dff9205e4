"""Results -> JSON. All of it is made here."""

import json
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np

from kd_cli.terminal import open_stdout


def print_json(result: object) -> None:
    """Print a result as exactly one JSON object."""
    print(json.dumps(as_plain(result), indent=2, allow_nan=False), file=open_stdout(), flush=True)


def as_plain(value: Any) -> Any:
    """A result as dictionaries, lists, text, numbers, booleans and None.

    A dataclass becomes a dictionary by the names of its fields; a field's metadata ``json`` is another name for it, or
    None to leave it out. JSON has no infinity and no NaN: both become None.
    """
    if is_dataclass(value):
        names = {field.name: field.metadata.get("json", field.name) for field in fields(value)}
        return {key: as_plain(getattr(value, name)) for name, key in names.items() if key is not None}
    if isinstance(value, Mapping):
        return {as_plain(key): as_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return as_plain(value.tolist())
    if isinstance(value, Enum):
        return as_plain(value.value)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
