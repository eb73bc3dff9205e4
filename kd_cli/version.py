"""The version of kd, which hatchling reads too, and the digest of its code."""

from functools import cache
from pathlib import Path

__version__ = "0.1.0"

PACKAGE = Path(__file__).parent

COMPUTING = (
    *("config.py", "data", "networks", "training", "distillation", "evaluation"),
    *("commands/job.py", "commands/resolve.py", "commands/checkpoints.py", "commands/grid.py", "commands/runs.py"),
    "commands/trials.py",
)
"""The parts of the program whose code decides what a run comes to."""


@cache
def source_digest(package: Path = PACKAGE) -> str:
    """A SHA-256 of the code that computes a run: an edited loss must not find the runs of the old one."""
    import hashlib  # not above: `kd --help` imports this room

    files = [file for part in COMPUTING for file in sorted([package / part, *(package / part).rglob("*.py")])]
    digest = hashlib.sha256()
    for file in files:
        if file.is_file():
            digest.update(file.read_bytes())
    return digest.hexdigest()
