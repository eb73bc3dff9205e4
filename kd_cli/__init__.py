"""Knowledge distillation, measured: a small student network learns from a larger teacher.

The functions of the Python API are those of `kd_cli.api`; it is imported when one of them is first used.
"""

from typing import TYPE_CHECKING, Any

from kd_cli.version import __version__

if TYPE_CHECKING:
    from kd_cli.api import benchmark as benchmark
    from kd_cli.api import compare as compare
    from kd_cli.api import distill as distill
    from kd_cli.api import evaluate as evaluate
    from kd_cli.api import export as export
    from kd_cli.api import predict as predict
    from kd_cli.api import reproduce as reproduce
    from kd_cli.api import train_teacher as train_teacher
    from kd_cli.api import tune as tune

__all__ = [
    "__version__",
    "benchmark",
    "compare",
    "distill",
    "evaluate",
    "export",
    "predict",
    "reproduce",
    "train_teacher",
    "tune",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from kd_cli import api

    return getattr(api, name)
