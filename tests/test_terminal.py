"""Text that cannot steer a terminal, and a standard output that fails as expected."""

import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pytest
from PIL import Image

from kd_cli.config import KdError
from kd_cli.terminal import open_stdout, printable
from tests.digits.images import draw_seven

needs_dev_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("7-mine.png", "7-mine.png"),
        ("pics/日本 é\u0301\u200d\udcff\\.png", "pics/日本 é\u0301\u200d\udcff\\.png"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("\x9b31m\x7f\x00", r"\x9b31m\x7f\x00"),
        ("two\nlines\r\t", r"two\nlines\r\t"),
        ("gnp.\u202e7\u2066\u2028", r"gnp.\u202e7\u2066\u2028"),
    ],
)
def test_control_characters_are_shown_and_all_others_kept(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert printable(shown) == shown


@needs_dev_full
def test_a_full_standard_output_is_an_expected_failure_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        with pytest.raises(KdError, match="cannot write to standard output: No space left on device"):
            print("text", file=open_stdout(), flush=True)
        full.flush()  # as the program does when it ends


def test_a_closed_standard_output_is_an_expected_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(KdError, match="standard output: it is closed"):
        open_stdout()


def test_what_the_encoding_cannot_express_is_a_question_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    content = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(content, encoding="ascii"))
    print("0.5 ± 0.1", file=open_stdout(), flush=True)
    assert content.getvalue().decode().strip() == "0.5 ? 0.1"


def full_disk() -> IO[bytes]:
    return open("/dev/full", "wb")


def closed_pipe() -> IO[bytes]:
    """The end to write to of a pipe that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    return os.fdopen(writer, "wb")


@needs_dev_full
@pytest.mark.parametrize(
    ("arguments", "open_output", "reason"),
    [
        (["predict", "7.png"], full_disk, "No space left on device"),
        (["predict", "7.png", "--json"], closed_pipe, "Broken pipe"),
        (["--help"], full_disk, "No space left on device"),
        (["distill", "--help"], closed_pipe, "Broken pipe"),
        (["--version"], full_disk, "No space left on device"),
    ],
)
def test_a_command_whose_output_fails_ends_in_one_line(
    tmp_path: Path, arguments: list[str], open_output: Callable[[], IO[Any]], reason: str
) -> None:
    Image.fromarray(255 - draw_seven()).save(tmp_path / "7.png")
    command = [sys.executable, "-m", "kd_cli", *arguments]
    with open_output() as output:
        run = subprocess.run(command, cwd=tmp_path, stdout=output, stderr=subprocess.PIPE, text=True, check=False)
    assert (run.returncode, run.stderr) == (1, f"kd: cannot write to standard output: {reason}\n")
