"""The state of a run on disk, so that an interrupted run goes on where its last epoch ended.

It lies beside the checkpoint (``student.safetensors.resume`` beside ``student.safetensors``) and is removed when the
command completes. It holds no code: it is written by `torch.save` and read with ``weights_only=True``.
"""

import io
import json
import logging
import pickle
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from kd_cli.config import KdError
from kd_cli.files import require_regular, write_atomically
from kd_cli.training.epoch_result import EpochResult
from kd_cli.training.group import GROUP_OF_ONE, Group
from kd_cli.training.loop import Callback, Epoch, Training

log = logging.getLogger(__name__)

SUFFIX = ".resume"

BEGINNING = b"archive/data.pkl"
"""What stands near the beginning of a state, and of no other file that a user is likely to have."""

NOT_AS_EXPECTED = (RuntimeError, LookupError, TypeError, ValueError, AttributeError)
"""What it raises to use values of a file that anybody may have written."""


def is_state(path: Path) -> bool:
    """Whether this program wrote a file as the state of a run, as far as its beginning tells."""
    try:
        with path.open("rb") as file:
            return BEGINNING in file.read(200)
    except OSError:
        return False


class ResumeState(Callback):
    """Keeps a run's state and history after every epoch, and gives them back to the same run only.

    Of several processes the first one writes and reads the file. It is the same for any number of them.

    Args:
        checkpoint: the file that the run writes in the end.
        identity: all that decides what the run computes, as JSON-like values; runs with equal identities are the same.
        group: the processes that train together.
    """

    def __init__(self, checkpoint: Path, identity: dict[str, Any], group: Group = GROUP_OF_ONE) -> None:
        self.path = checkpoint.with_name(f"{checkpoint.name}{SUFFIX}")
        self.identity = json.loads(json.dumps(identity))  # plain values only: what is read back is compared with them
        self.group = group
        self.epochs_kept = 0
        self._ended_at_state = False

    def on_epoch_end(self, training: Training, epoch: Epoch) -> None:
        """Keep the state, but for that of the last epoch: the result goes first."""
        if training.epochs_done < training.config.epochs:
            self.keep(training)

    def keep(self, training: Training) -> None:
        """Write the state. A run whose state does not fit on the disk goes on: its result may."""
        if not self.group.is_first:
            self.epochs_kept = len(training.history)  # as the first process does meanwhile
            return
        history = [asdict(each) for each in training.history]
        state = {"run": self.identity, "training": training.state_dict(), "history": history, "diverged": False}
        try:
            self._write(state)
            self.epochs_kept = len(history)
        except KeyboardInterrupt:
            if self.path.exists():  # it may have come before or after the new state took its place
                self.epochs_kept = len(self._read()["history"])
            raise
        except KdError as error:
            log.warning("%s (the run goes on, but --resume could not go on from epoch %d)", error, len(history))

    def on_fit_end(self, training: Training) -> None:
        """Note whether the run is where the state is."""
        self._ended_at_state = training.step_in_epoch == 0

    def mark_diverged(self) -> None:
        """Note that the next epoch diverged, so that the run may go on with another learning rate.

        Where its very first loss was no number, the state itself is of no use, and is forgotten.

        Raises:
            KdError: the file cannot be written.
        """
        if not self.epochs_kept:
            return
        if self._ended_at_state:
            self.remove()
            self.epochs_kept = 0
        elif self.group.is_first:
            self._write(self._read() | {"diverged": True})

    def restore(self, training: Training) -> None:
        """Bring a fresh run to the state that was kept; as they are where nothing was kept.

        Raises:
            KdError: what was kept is damaged, or belongs to a run that computes something else.
        """
        if not self.group.from_first(self.path.exists):
            log.warning("no interrupted run in %s: starting anew", self.path)
            return
        kept = self.group.from_first(self._read)
        try:
            identity, state, diverged = dict(kept["run"]), kept["training"], kept["diverged"]
            history = [EpochResult(**entry) for entry in kept["history"]]
        except NOT_AS_EXPECTED as error:
            raise self._damaged() from error
        # The step that diverged is not part of the state: with another learning rate the run may pass it.
        free = {"lr"} if diverged else set()
        if different := [key for key in [*self.identity, *identity] if _differs(identity, self.identity, key, free)]:
            key = different[0]
            raise KdError(
                f"{self.path} belongs to another command line ({key} {identity.get(key)}, now "
                f"{self.identity.get(key)}): repeat that one, or start again without --resume"
            )
        try:
            training.load_state_dict(state)
        except NOT_AS_EXPECTED as error:
            raise self._damaged() from error
        if training.epochs_done != len(history):
            raise self._damaged()
        training.history[:] = history
        self.epochs_kept = len(history)

    def remove(self) -> None:
        """Forget the run: it is complete."""
        if self.group.is_first:
            self.path.unlink(missing_ok=True)

    def _read(self) -> dict[str, Any]:
        require_regular(self.path)
        try:
            kept: dict[str, Any] = torch.load(self.path, weights_only=True, map_location="cpu")
        except OSError as error:
            raise KdError(
                f"cannot read {self.path}: {error.strerror or error}; start again without --resume"
            ) from error
        except (pickle.UnpicklingError, EOFError, *NOT_AS_EXPECTED) as error:
            raise self._damaged() from error
        if not isinstance(kept, dict):
            raise self._damaged()
        return kept

    def _write(self, kept: dict[str, Any]) -> None:
        buffer = io.BytesIO()
        torch.save(kept, buffer)
        write_atomically(self.path, buffer.getvalue())

    def _damaged(self) -> KdError:
        return KdError(
            f"{self.path} is damaged or not the state of a run: "
            "delete it and start again without --resume, or choose another --output"
        )


def _differs(theirs: dict[str, Any], ours: dict[str, Any], key: str, free: set[str]) -> bool:
    return key not in free and theirs.get(key) != ours.get(key)
