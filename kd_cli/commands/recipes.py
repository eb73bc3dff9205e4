"""What the reproduction of a paper is made of: networks to train, and numbers to read from them. Free of torch."""

import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from kd_cli.config import (
    ClassBiasConfig,
    DataConfig,
    LabelConfig,
    Role,
    TrainingConfig,
    TrainingPrecision,
    as_arguments,
)
from kd_cli.distillation.methods import FROM_LABELS, MethodConfig
from kd_cli.networks.spec import Spec

VALIDATION_FRACTION = 0.1
"""Of the training images: set aside where a setting is chosen, or a bias fitted."""


@dataclass(frozen=True)
class Setting:
    """A choice that validation images make: the learning rate, and the teacher's share of the loss."""

    lr: float
    alpha: float | None = None

    def __str__(self) -> str:
        return f"lr {self.lr:g}" + ("" if self.alpha is None else f", alpha {self.alpha:g}")


@dataclass(frozen=True)
class Recipe:
    """A network of a reproduction: all that ``kd`` is told to train it, but for seeds and places of files.

    Attributes:
        name: what its files are called.
        architecture: of the network.
        training: how it is trained, with one thread where runs are to go on side by side.
        method: how it is distilled.
        labels: which images it sees.
        teacher: who teaches it. All its runs learn from the teacher's first one.
        role: what it is saved as.
        settings: what to choose from by the accuracy on validation images; none: that of ``training`` and ``method``.
        sets_aside: whether it is trained without the validation images, as a bias is to be fitted to them.
    """

    name: str
    architecture: Spec
    training: TrainingConfig
    method: MethodConfig = FROM_LABELS
    labels: LabelConfig = LabelConfig()
    teacher: "Recipe | None" = None
    role: Role = Role.student
    settings: tuple[Setting, ...] = ()
    sets_aside: bool = False

    @property
    def setting(self) -> Setting:
        """Its learning rate, and the teacher's share of the loss where it has one."""
        return Setting(self.training.lr, None if self.method.is_baseline else self.method.alpha)

    @property
    def candidates(self) -> tuple["Recipe", ...]:
        """The same network with each of the settings."""
        return tuple(
            replace(
                self,
                training=replace(self.training, lr=each.lr),
                method=self.method if each.alpha is None else replace(self.method, alpha=each.alpha),
                settings=(),
            )
            for each in self.settings
        )

    @property
    def validation_fraction(self) -> float | None:
        """What the final runs set aside."""
        return VALIDATION_FRACTION if self.sets_aside else None

    def command(self, data: DataConfig, precision: TrainingPrecision) -> str:
        """The command that trains the first run."""
        data = replace(data, validation_fraction=self.validation_fraction)
        training = replace(self.training, precision=precision)
        output = ["--output", self.file]
        if self.role is Role.teacher:
            arguments = as_arguments(data, training)
            return shlex.join(["kd", "train-teacher", "--arch", str(self.architecture), *arguments, *output])
        teacher = ["--teacher", self.teacher.file] if self.teacher else []
        arguments = as_arguments(self.method, self.labels, data, training)
        return shlex.join(["kd", "distill", "--student", str(self.architecture), *teacher, *arguments, *output])

    @property
    def file(self) -> str:
        """What its checkpoint is called in a command."""
        return f"{self.name}.safetensors"


@dataclass(frozen=True)
class Reading:
    """A number that is read from a network: how many test images it gets wrong.

    Attributes:
        name: of the number.
        recipe: of the network.
        paper: the paper's number; None where it gives none.
        labels: the same student from labels, whose number stands beside it.
        of_class: count the errors among the images of this class alone.
        fit_bias: classes whose logits get a bias, fitted to the validation images.
    """

    name: str
    recipe: Recipe
    paper: int | None = None
    labels: Recipe | None = None
    of_class: str | None = None
    fit_bias: tuple[str, ...] = ()

    @property
    def bias(self) -> ClassBiasConfig:
        """What ``kd evaluate`` is told."""
        return ClassBiasConfig(fit_class_bias=self.fit_bias)

    def command(self, data: DataConfig) -> str:
        """The command that shows the number of the first run."""
        data = replace(data, validation_fraction=self.recipe.validation_fraction)
        return shlex.join(["kd", "evaluate", self.recipe.file, "--confusion", *as_arguments(data, self.bias)])


Means = Mapping[str, float]
"""The mean over the seeds of each number of a row, by its name; with " from labels" that of its baseline."""

FROM_LABELS_TOO = " from labels"


@dataclass(frozen=True)
class Row:
    """A result of a paper.

    Attributes:
        name: what ``--row`` calls it.
        says: the paper's result, in a line.
        readings: its numbers.
        claim: what should be true of them at any scale; empty if nothing can be said of this row alone.
        holds: whether it is.
    """

    name: str
    says: str
    readings: tuple[Reading, ...]
    claim: str = ""
    holds: Callable[[Means], bool] | None = None

    def recipes(self) -> Iterator[Recipe]:
        """The networks that it needs: each after its teacher, some perhaps twice."""
        for reading in self.readings:
            yield from filter(None, (reading.recipe.teacher, reading.recipe, reading.labels))


@dataclass(frozen=True)
class Paper:
    """A paper that can be reproduced.

    Attributes:
        reference: authors, year, title, and where in it.
        dataset: whose test images are counted.
        rows: its results, and the same at a smaller scale.
    """

    reference: str
    dataset: str
    rows: tuple[Row, ...]
    quick_rows: tuple[Row, ...]
