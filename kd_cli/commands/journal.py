"""The journal that keeps a search's trials: Optuna's, written by one process that may be killed at any moment."""

from pathlib import Path

import optuna
from optuna.exceptions import OptunaError
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState

from kd_cli.commands.trials import Key, key_of
from kd_cli.config import KdError
from kd_cli.files import require_regular


class Journal:
    """The trials of a search, and their repeats, in a file.

    Args:
        path: the file, which is created if it is not there.

    Attributes:
        done: those that came to an end, by key.

    Raises:
        KdError: the file cannot be read or written, or is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.done: dict[Key, FrozenTrial] = {}
        try:
            self._study = _open(path)
            for trial in self._study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED)):
                self.done.setdefault(key_of(trial), trial)
        except OSError as error:
            raise KdError(f"cannot write {path}: {error.strerror or error}; choose another --results-dir") from error
        except (OptunaError, ValueError, LookupError, TypeError, AttributeError, AssertionError) as error:
            raise KdError(f"{path} is damaged: remove it, or use --fresh") from error

    def keep(self, trial: FrozenTrial) -> None:
        """Write down a trial, or a repeat, that came to an end.

        Raises:
            KdError: the file cannot be written.
        """
        try:
            self._study.add_trial(trial)
        except OSError as error:
            raise KdError(f"cannot write {self.path}: {error.strerror or error}; free some space") from error
        self.done[key_of(trial)] = trial


class _NoLock(JournalFileOpenLock):
    """In place of a lock file, which would outlive a command that is killed.

    Only the command writes, not its workers, and it adds a whole line at a time.
    """

    def acquire(self) -> bool:
        """Nothing to wait for."""
        return True

    def release(self) -> None:
        """Nothing to let go of."""


def _open(path: Path) -> optuna.Study:
    require_regular(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _drop_torn_line(path)
    storage = JournalStorage(JournalFileBackend(str(path), _NoLock(str(path))))
    return optuna.create_study(storage=storage, study_name=path.stem, direction="maximize", load_if_exists=True)


def _drop_torn_line(path: Path) -> None:
    """Take away what a process that was killed has left of its last line: Optuna would append to it."""
    if path.exists():
        content = path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            with path.open("r+b") as file:
                file.truncate(whole)
