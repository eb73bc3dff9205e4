"""``python -m kd_cli`` is the same program as ``kd``."""

from kd_cli.cli import run

run()
