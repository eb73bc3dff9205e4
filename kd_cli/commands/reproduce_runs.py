"""The networks of a reproduction: which of them can be trained by now, and how each is trained, once."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from kd_cli.commands.checkpoints import open_for_testing
from kd_cli.commands.distill import distill
from kd_cli.commands.job import StudentConfig
from kd_cli.commands.recipes import VALIDATION_FRACTION, Recipe
from kd_cli.commands.resolve import resolve_student
from kd_cli.commands.run_store import identify, short_digest
from kd_cli.commands.runs import describe_failure
from kd_cli.config import (
    DataConfig,
    OutputConfig,
    RunConfig,
    RunStoppedError,
    TeacherConfig,
    TrainingPrecision,
)
from kd_cli.evaluation.quality import measure_accuracy
from kd_cli.networks.checkpoint import is_checkpoint
from kd_cli.training.loop import Callback
from kd_cli.training.resume import SUFFIX


@dataclass(frozen=True)
class NetworkRun:
    """A training run of a recipe whose setting is chosen; ``trial`` if it only helps to choose it."""

    recipe: Recipe
    seed: int
    trial: bool = False

    def __str__(self) -> str:
        return f"{self.recipe.name}, seed {self.seed}" + (f", trial of {self.recipe.setting}" if self.trial else "")


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
    """All runs of a reproduction, each after those that it needs: its teacher's, and the trials of its settings.

    Args:
        recipes: the networks, each after its teacher.
        seeds: of their runs.
        folder: where the networks are kept, named after a digest of all that decides them.
        data: the data set.
        run: where to compute.
        fresh: train also what is kept.
        precision: that of all runs.
    """

    def __init__(
        self,
        recipes: Iterable[Recipe],
        seeds: tuple[int, ...],
        folder: Path,
        data: DataConfig,
        run: RunConfig,
        fresh: bool = False,
        precision: TrainingPrecision = TrainingPrecision.fp32,
    ) -> None:
        self.recipes, self.seeds = list(dict.fromkeys(recipes)), seeds
        self.folder, self.data, self.run, self.fresh, self.precision = folder, data, run, fresh, precision
        self.files: dict[NetworkRun, Path | None] = {}
        """The checkpoint of each run that is done; None if it came to nothing."""
        self._known: set[NetworkRun] = set()
        self._chosen: dict[Recipe, Recipe] = {}

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
        found = [self.files.get(run) for run in self._final(recipe)]
        return [path for path in found if path is not None]

    def has_lost(self, run: NetworkRun) -> bool:
        """Whether it was a trial of a setting in whose place another one is taken."""
        return run.trial and any(run.recipe in recipe.candidates for recipe in self._chosen)

    def command_of(self, recipe: Recipe) -> str:
        """The command that trains the first run, with the setting that was chosen if one was."""
        return self._chosen.get(recipe, recipe).command(self.data, self.precision)

    def _ready(self) -> Iterator[NetworkRun]:
        for recipe in self.recipes:
            if recipe.teacher is not None and not self._teacher_of(recipe):
                continue
            self._choose(recipe)
            yield from self._final(recipe) if recipe in self._chosen else _trials(recipe)

    def _final(self, recipe: Recipe) -> list[NetworkRun]:
        """The runs that count, once their setting is chosen."""
        chosen = self._chosen.get(recipe)
        return [NetworkRun(chosen, seed) for seed in self.seeds] if chosen else []

    def _teacher_of(self, recipe: Recipe) -> tuple[Path, ...]:
        """The first run of the teacher, as soon as it is trained."""
        if recipe.teacher is None or not (runs := self._final(recipe.teacher)):
            return ()
        path = self.files.get(runs[0])
        return (path,) if path else ()

    def _choose(self, recipe: Recipe) -> None:
        """Take the only setting, or the best one once all trials are done."""
        trials = _trials(recipe)
        if not trials:
            self._chosen[recipe] = recipe
        elif recipe not in self._chosen and all(run in self.files for run in trials):
            found = {run.recipe: path for run in trials if (path := self.files[run])}
            if found:
                self._chosen[recipe] = max(found, key=lambda candidate: self._validate(found[candidate]))

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
            replace(recipe.training, seed=run.seed, precision=self.precision),
            self.run,
            role=recipe.role,
        )
        digest = short_digest(identify(resolve_student(config, needs_teacher=False)))
        setting = str(recipe.setting).replace(", ", "-").replace(" ", "")
        name = f"{recipe.name}-{setting}-seed{run.seed}-{digest}.safetensors"
        return NetworkTask(run, config, self.folder / name)


def _trials(recipe: Recipe) -> list[NetworkRun]:
    """The runs that choose the setting, all with the recipe's own seed."""
    return [NetworkRun(candidate, recipe.training.seed, trial=True) for candidate in recipe.candidates]
