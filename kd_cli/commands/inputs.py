"""The files that a command reads, none of which it ever replaces. Free of torch, until there is a data set."""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType

from kd_cli.data.dataset import Dataset


def inputs_of(files: Iterable[Path], dataset: Dataset | None = None) -> Iterator[Path]:
    """Every file of the user's that a command reads, once all that it reads is known.

    Args:
        files: checkpoints, weights and images, given or found.
        dataset: the data set, if there is one.

    Raises:
        KdError: the folder of a data set cannot be read any more.
    """
    yield from files
    yield from _code()
    if dataset is not None:
        from kd_cli.data import prepared  # imports torch

        yield from prepared.files_of(dataset)


def _code() -> Iterator[Path]:
    """The Python files that run: users' networks, and what they import."""
    for module in list(sys.modules.values()):
        file = vars(module).get("__file__") if isinstance(module, ModuleType) else None
        if file:
            yield Path(file)
