"""Results -> files of comma-separated values, and how to know one again."""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from kd_cli.files import write_atomically

LONGEST_HEADER = 100_000
"""Characters that the first line of a file of ours has, at most."""


def write_rows(path: Path, rows: Iterable[Sequence[object]]) -> None:
    """Write rows, the first of which is the header.

    Raises:
        KdError: the file cannot be written.
    """
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_atomically(path, text.getvalue().encode(errors="surrogateescape"))


def has_header(path: Path, first: Sequence[str], last: str) -> bool:
    """Whether a file's first line names these columns first, and this one last."""
    try:
        with path.open(encoding="utf-8") as file:
            header = file.readline(LONGEST_HEADER).rstrip("\n").split(",")
    except (OSError, UnicodeDecodeError):
        return False
    return header[: len(first)] == list(first) and header[-1] == last
