"""The state of a training run on disk, so that an interrupted run goes on where its last epoch ended.

The journal lies beside the checkpoint (``student.resume`` beside ``student.safetensors``) and is removed when the
command completes. It holds no code: it is written by `torch.save` and read with ``weights_only=True``.
"""

import io
import json
import pickle
from pathlib import Path
from typing import Any

import torch

from kd_cli.files import write_atomically
from kd_cli.settings import KdError
from kd_cli.train import Training

Entry = dict[str, Any]
"""What a run reports of one epoch."""


class Journal:
    """Keeps a run's state after every epoch, and gives it back to the same run only.

    Args:
        checkpoint: the file that the run writes in the end.
        run: all that decides what the run computes, as JSON-like values; two runs with equal descriptions are the same.
    """

    def __init__(self, checkpoint: Path, run: dict[str, Any]) -> None:
        self.path = checkpoint.with_suffix(".resume")
        self.run = json.loads(json.dumps(run))  # plain values only: what is read back is compared with them

    def keep(self, training: Training, history: list[Entry]) -> None:
        """Write the state that the run has now, at the end of an epoch.

        Raises:
            KdError: the file cannot be written.
        """
        buffer = io.BytesIO()
        torch.save({"run": self.run, "training": training.state_dict(), "history": history}, buffer)
        write_atomically(self.path, buffer.getvalue())

    def restore(self, training: Training) -> list[Entry]:
        """Bring a fresh run to the state that was kept; the entries of the epochs done, none where nothing was kept.

        Raises:
            KdError: what was kept is damaged, or belongs to a run that computes something else.
        """
        if not self.path.exists():
            return []
        damaged = KdError(f"{self.path} is damaged: delete it and start again without --resume")
        try:
            kept = torch.load(self.path, weights_only=True, map_location="cpu")
            run, state, history = kept["run"], kept["training"], kept["history"]
        except OSError as error:
            raise KdError(f"cannot read {self.path}: {error.strerror or error}; start again without --resume") from None
        except (pickle.UnpicklingError, RuntimeError, EOFError, LookupError, TypeError, ValueError, AttributeError):
            raise damaged from None
        if run != self.run:
            raise KdError(
                f"{self.path} belongs to another command line ({_difference(run, self.run)}): "
                "repeat that one, or start again without --resume"
            )
        try:
            training.load_state_dict(state)
        except (RuntimeError, LookupError, TypeError, ValueError, AttributeError):
            raise damaged from None
        return list(history)

    def remove(self) -> None:
        """Forget the run: it is complete."""
        self.path.unlink(missing_ok=True)


def _difference(theirs: dict[str, Any], ours: dict[str, Any]) -> str:
    key = next(key for key in [*ours, *theirs] if theirs.get(key) != ours.get(key))
    return f"{key} {theirs.get(key)}, now {ours.get(key)}"
