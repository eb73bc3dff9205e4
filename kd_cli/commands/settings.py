"""Tuned settings in a file: `kd tune` writes it, ``kd compare --from-study`` reads it.

Free of torch. `kd --help` imports this room, but neither json nor `files`, which would be a fifth of what it takes.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from kd_cli.config import KdError, TrainingConfig
from kd_cli.distillation.methods import MethodConfig
from kd_cli.networks.spec import Spec, parse_spec


@dataclass(frozen=True)
class Setting:
    """A method with its options, and the learning rate that goes with them."""

    method: MethodConfig
    lr: float


@dataclass(frozen=True)
class TunedSettings:
    """What a study chose for a student: a setting for each method, and one for the baseline."""

    path: Path
    dataset: str
    student: Spec
    epochs: int
    settings: tuple[Setting, ...]


def write_settings(tuned: TunedSettings) -> None:
    """Write the file, in the words of ``kd tune --json``.

    Raises:
        KdError: it cannot be written.
    """
    import json

    from kd_cli.files import write_atomically

    rows = [
        {"method": each.method.method, "options": {"lr": each.lr} | each.method.settings} for each in tuned.settings
    ]
    record = {"dataset": tuned.dataset, "student": str(tuned.student), "epochs": tuned.epochs, "rows": rows}
    write_atomically(tuned.path, json.dumps(record, indent=2).encode())


def read_settings(text: str) -> TunedSettings:
    """Read the file of this name, or what ``kd tune --json`` printed.

    Raises:
        KdError: it is not there, holds no settings, or one of them cannot be used.
    """
    import json

    from kd_cli.files import require_regular

    path = Path(text)
    try:
        require_regular(path)
        record = json.loads(path.read_text("utf-8"))
        return TunedSettings(
            path, str(record["dataset"]), parse_spec(record["student"]), int(record["epochs"]), _read(record["rows"])
        )
    except OSError as error:
        raise KdError(f"cannot read {path}: {error.strerror or error}; run kd tune first") from error
    except (RecursionError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise KdError(f"{path} holds no settings that kd tune wrote: use another file") from error


def _read(rows: Iterable[dict[str, object]]) -> tuple[Setting, ...]:
    settings = []
    for row in rows:
        options = dict(row["options"])  # type: ignore[call-overload]
        lr = TrainingConfig(lr=float(options.pop("lr"))).lr
        settings.append(Setting(MethodConfig(row["method"], **options), lr))  # type: ignore[arg-type]
    if not any(each.method.is_baseline for each in settings):
        raise ValueError("nothing to compare with")
    return tuple(settings)
