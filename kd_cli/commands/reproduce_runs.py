"""The networks of a reproduction: which of them can be trained by now, and how each is trained, once."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from kd_cli.commands.checkpoints import open_for_testing
from kd_cli.commands.distill import distill
from kd_cli.commands.job import StudentConfig
from kd_cli.commands.recipes import VALIDATION_FRACTION, Recipe
from kd_cli.commands.resolve import resolve_student
from kd_cli.commands.runs import describe_failure
from kd_cli.config import DataConfig, OutputConfig, RunConfig, RunStoppedError, TeacherConfig
from kd_cli.evaluation.quality import measure_accuracy
from kd_cli.networks.checkpoint import is_checkpoint
from kd_cli.training.loop import Callback
from kd_cli.training.resume import SUFFIX
from kd_cli.version import source_digest


@dataclass(frozen=True)
class NetworkRun:
    """A training run of a recipe; ``trial`` if it only helps to choose the learning rate."""

    recipe: Recipe
    seed: int
    lr: float
    trial: bool = False

    def __str__(self) -> str:
        return f"{self.recipe.name}, seed {self.seed}" + (f", trial of lr {self.lr:g}" if self.trial else "")


@dataclass(frozen=True)
class NetworkTask:
    """A run that is to be carried out, with all its options, and the file that it writes."""

    run: NetworkRun
    config: StudentConfig
    path: Path

    def __str__(self) -> str:
        return str(self.run)


def train_network(task: NetworkTask) -> str | None:
    """Train and save a network, from where an earlier command was stopped; what went wrong, if anything did."""
    interrupted = task.path.with_name(task.path.name + SUFFIX).exists()
    try:
        # A network that learnt nothing counts, too: else it would be trained again by every command.
        distill(task.config, OutputConfig(task.path, resume=interrupted), force=True, callbacks=[Callback()])
    except RunStoppedError as error:
        raise KeyboardInterrupt from error  # it is the whole command that was stopped
    except Exception as error:  # one broken run must not take the others down
        return describe_failure(error)
    return None


class NetworkRuns:
    """All runs of a reproduction, each after those that it needs: its teacher's, and the trials of its learning rate.

    Args:
        recipes: the networks, each after its teacher.
        seeds: of their runs.
        folder: where the networks are kept, named after a digest of all that decides them.
        data: the data set.
        run: where to compute.
        fresh: train also what is kept.
    """

    def __init__(
        self,
        recipes: Iterable[Recipe],
        seeds: tuple[int, ...],
        folder: Path,
        data: DataConfig,
        run: RunConfig,
        fresh: bool = False,
    ) -> None:
        self.recipes, self.seeds = list(dict.fromkeys(recipes)), seeds
        self.folder, self.data, self.run, self.fresh = folder, data, run, fresh
        self.files: dict[NetworkRun, Path | None] = {}
        """The checkpoint of each run that is done; None if it came to nothing."""
        self._known: set[NetworkRun] = set()
        self._lrs: dict[Recipe, float] = {}

    @property
    def total(self) -> int:
        """How many runs there are in all."""
        return len(self.recipes) * len(self.seeds) + sum(len(_trials(each)) for each in self.recipes)

    def next_tasks(self) -> list[NetworkTask]:
        """The runs that can be carried out by now, but for those that it gave before and those that are kept."""
        tasks = []
        while new := [run for run in self._ready() if run not in self._known]:
            for run in new:
                self._known.add(run)
                task = self._prepare(run)
                if is_checkpoint(task.path) and not self.fresh:
                    self.files[run] = task.path
                else:
                    tasks.append(task)
        return tasks

    def files_of(self, recipe: Recipe) -> list[Path]:
        """The checkpoints of a recipe, one for each seed whose run came to something."""
        lr = self._lrs.get(recipe)
        found = [] if lr is None else [self.files.get(each) for each in self._final(recipe, lr)]
        return [path for path in found if path is not None]

    def lr_of(self, recipe: Recipe) -> float:
        """The learning rate that was chosen; while none is, the recipe's own."""
        return self._lrs.get(recipe, recipe.training.lr)

    def _ready(self) -> Iterator[NetworkRun]:
        for recipe in self.recipes:
            if recipe.teacher is not None and not self._teacher_of(recipe):
                continue
            self._choose_lr(recipe)
            if recipe in self._lrs:
                yield from self._final(recipe, self._lrs[recipe])
            else:
                yield from _trials(recipe)

    def _final(self, recipe: Recipe, lr: float) -> list[NetworkRun]:
        return [NetworkRun(recipe, seed, lr) for seed in self.seeds]

    def _teacher_of(self, recipe: Recipe) -> tuple[Path, ...]:
        """The first run of the teacher, as soon as it is trained."""
        teacher = recipe.teacher
        if teacher is None or teacher not in self._lrs:
            return ()
        path = self.files.get(self._final(teacher, self._lrs[teacher])[0])
        return (path,) if path else ()

    def _choose_lr(self, recipe: Recipe) -> None:
        """Take the only learning rate, or the best one once all trials are done."""
        trials = _trials(recipe)
        if not trials:
            self._lrs[recipe] = recipe.training.lr
        elif recipe not in self._lrs and all(run in self.files for run in trials):
            found = {run.lr: path for run in trials if (path := self.files[run])}
            if found:
                self._lrs[recipe] = max(found, key=lambda lr: self._validate(found[lr]))

    def _validate(self, path: Path) -> float:
        """The accuracy on the validation images."""
        data = replace(self.data, validation_fraction=VALIDATION_FRACTION)
        dataset, (network,) = open_for_testing(data, self.run, [path], train=True)
        assert dataset.validation is not None  # a fraction was asked for
        logits = torch.from_numpy(network.compute_logits(dataset.validation.images.cpu().numpy()))
        return measure_accuracy(logits, dataset.validation.labels.cpu())[0]

    def _prepare(self, run: NetworkRun) -> NetworkTask:
        recipe = run.recipe
        fraction = VALIDATION_FRACTION if run.trial else recipe.validation_fraction
        config = StudentConfig(
            recipe.architecture,
            recipe.method,
            TeacherConfig(self._teacher_of(recipe)),
            recipe.labels,
            replace(self.data, validation_fraction=fraction),
            replace(recipe.training, seed=run.seed, lr=run.lr),
            self.run,
            role=recipe.role,
        )
        identity = resolve_student(config, needs_teacher=False).identity() | {"source": source_digest()}
        digest = hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()[:12]
        name = f"{recipe.name}-lr{run.lr:g}-seed{run.seed}-{digest}.safetensors"
        return NetworkTask(run, config, self.folder / name)


def _trials(recipe: Recipe) -> list[NetworkRun]:
    """The runs that choose the learning rate, all with the recipe's own seed."""
    if len(recipe.lrs) < 2:
        return []
    return [NetworkRun(recipe, recipe.training.seed, lr, trial=True) for lr in recipe.lrs]
