"""``python -m kd_cli`` is the same program as ``kd``."""

import sys

from kd_cli.cli import main

sys.exit(main())
