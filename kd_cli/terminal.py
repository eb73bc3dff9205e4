"""Text that cannot steer a terminal, and a standard output whose failure is expected. Free of everything slow."""

import io
import os
import re
import sys
from collections.abc import Callable
from typing import Any, TextIO, TypeVar, cast

from kd_cli.config import KdError

Returned = TypeVar("Returned")

CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""Control characters, ends of lines, and those that reverse the direction of writing."""


def printable(text: str) -> str:
    """Text whose control characters are shown (``\\x1b``), not obeyed: file names and checkpoints may hold any."""
    return CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def open_stdout() -> TextIO:
    """Standard output that takes any text: what its encoding cannot express becomes a ``?``.

    Its methods raise `KdError` where it cannot be written: on a full disk, or when its reader has gone (``| head``).

    Raises:
        KdError: it is closed.
    """
    if sys.stdout is None:
        raise KdError("cannot write to standard output: it is closed")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    return cast(TextIO, _Output(sys.stdout))


class _Output:
    """A stream, but for its failures. One that has failed fails for good: Click tries a stream out and hides errors."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._failure: OSError | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        return self._try(lambda: self._stream.write(text))

    def flush(self) -> None:
        self._try(self._stream.flush)

    def _try(self, call: Callable[[], Returned]) -> Returned:
        if self._failure is None:
            try:
                return call()
            except OSError as error:
                self._failure = error
                # What is still in the buffer would fail once more, with a traceback, when the program ends.
                os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
        reason = self._failure.strerror or self._failure
        raise KdError(f"cannot write to standard output: {reason}") from self._failure
