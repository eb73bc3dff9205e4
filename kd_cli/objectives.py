"""What a training step minimises: labels alone, or labels and a distillation loss bound to its teacher.

An objective is a callable ``objective(network, batch) -> Step``. It owns what the teacher says and the layers that only
training needs (projections), so that the training loop need not know what distillation is. An objective with such
layers is a module, and the loop trains its parameters together with the network's. (The idea of a task that owns its
criterion and teacher is timm's.)
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kd_cli import losses
from kd_cli.data import Batch
from kd_cli.methods import Choice, MethodName, Tap
from kd_cli.networks import Network
from kd_cli.projections import Contrast, Hint, Variational
from kd_cli.teaching import Teacher, Teaching, read


@dataclass(frozen=True)
class Step:
    """One step's logits, (B, classes), and its weighted loss terms by name."""

    logits: Tensor
    terms: dict[str, Tensor]

    @property
    def loss(self) -> Tensor:
        """The scalar to minimise: the sum of the terms."""
        return torch.stack(list(self.terms.values())).sum() if len(self.terms) > 1 else next(iter(self.terms.values()))


Objective = Callable[[Network, Batch], Step]

LogitTerms = Callable[[Tensor, Tensor, Tensor], dict[str, Tensor]]
"""Student's logits, teacher's logits, labels -> the weighted terms of a method."""

FeatureTerms = Callable[[Tensor, Tensor, Batch], dict[str, Tensor]]
"""Student's features, teacher's features, batch -> the weighted terms of a method."""


def from_labels(network: Network, batch: Batch) -> Step:
    """Cross-entropy with the hard labels: how a teacher learns, and the baseline of every distillation."""
    logits = network(batch.images)
    return Step(logits, {"labels": F.cross_entropy(logits, batch.labels)})


def label_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy over the pictures that have a label, 0 without any; -100 stands for no label."""
    labelled = (labels >= 0).sum().clamp_min(1)
    return F.cross_entropy(logits, labels, reduction="sum") / labelled


@dataclass(frozen=True)
class LogitDistillation:
    """A loss between the student's logits and the teacher's, and the labels' with a weight of its own."""

    teacher: Teacher
    compare: LogitTerms
    label_weight: float

    def __call__(self, network: Network, batch: Batch) -> Step:
        """One forward pass of the student, compared with the teacher and with the labels."""
        logits = network(batch.images)
        terms = self.compare(logits, self.teacher(batch), batch.labels)
        if self.label_weight > 0:
            terms["labels"] = self.label_weight * label_loss(logits, batch.labels)
        return Step(logits, terms)


class FeatureDistillation(nn.Module):
    """A loss between features inside the student and inside the teacher, added to the labels'."""

    def __init__(self, teacher: Teacher, tap: Tap, compare: FeatureTerms, label_weight: float) -> None:
        super().__init__()
        self.teacher, self.tap, self.label_weight = teacher, tap, label_weight
        self.compare = compare  # where this is a module, its parameters are this objective's

    def forward(self, network: Network, batch: Batch) -> Step:
        """One forward pass of the student, compared with the teacher and with the labels."""
        features = network.forward_features(batch.images)
        *_, logits = features.values()
        terms = self.compare(read(self.tap, features), self.teacher(batch), batch)
        terms["labels"] = self.label_weight * label_loss(logits, batch.labels)
        return Step(logits, terms)


def bind(choice: Choice, teaching: Teaching | None, network: Network, seed: int) -> Objective:
    """The objective of a method for a student, with its teachers.

    A method's own layers are initialised from torch's global random stream, and after the student: with the same seed,
    every method starts from the same student.
    """
    if teaching is None or choice.method.tap is Tap.nothing:
        return from_labels
    tap = choice.method.tap
    if tap is Tap.logits:
        teacher = teaching.logits(_averaged_at(choice))
        return LogitDistillation(teacher, _logit_terms(choice), choice.label_weight)
    compare = _feature_terms(choice, teaching, network, seed)
    return FeatureDistillation(teaching.features(tap), tap, compare, choice.label_weight)


def _averaged_at(choice: Choice) -> float | None:
    """The temperature at which several teachers' probabilities are averaged; `mse` averages logits."""
    return None if choice.name is MethodName.mse else choice.values.get("temperature", 1.0)


def _logit_terms(choice: Choice) -> LogitTerms:
    options = choice.values
    temperature, weight, beta = options.get("temperature", 1.0), options.get("weight", 1.0), options.get("beta", 1.0)

    def soft_targets(student: Tensor, teacher: Tensor, labels: Tensor) -> dict[str, Tensor]:
        return {"teacher": options.get("alpha", 1.0) * losses.soft_target_loss(student, teacher, temperature)}

    def logit_matching(student: Tensor, teacher: Tensor, labels: Tensor) -> dict[str, Tensor]:
        return {"teacher": weight * losses.logit_matching_loss(student, teacher)}

    def decoupled(student: Tensor, teacher: Tensor, labels: Tensor) -> dict[str, Tensor]:
        target, others = losses.decoupled_losses(student, teacher, labels, temperature)
        return {"target class": weight * target, "other classes": beta * others}

    def relations(student: Tensor, teacher: Tensor, labels: Tensor) -> dict[str, Tensor]:
        between, within = losses.relation_losses(student, teacher, temperature)
        return {"between classes": weight * between, "within classes": beta * within}

    def standardised(student: Tensor, teacher: Tensor, labels: Tensor) -> dict[str, Tensor]:
        return {"teacher": weight * losses.standardised_soft_target_loss(student, teacher, temperature)}

    return {
        MethodName.kl: soft_targets,
        MethodName.kd: soft_targets,
        MethodName.mse: logit_matching,
        MethodName.dkd: decoupled,
        MethodName.dist: relations,
        MethodName.logit_std: standardised,
    }[choice.name]


PLAIN_FEATURE_LOSSES: dict[MethodName, Callable[[Tensor, Tensor], Tensor]] = {
    MethodName.at: losses.attention_loss,
    MethodName.sp: losses.similarity_loss,
    MethodName.pkt: losses.probability_transfer_loss,
    MethodName.cc: losses.correlation_loss,
}


class _Weighted(nn.Module):
    """A loss that brings layers of its own, times its weight."""

    def __init__(self, weight: float, loss: nn.Module) -> None:
        super().__init__()
        self.weight, self.loss = weight, loss

    def forward(self, student: Tensor, teacher: Tensor, batch: Batch) -> dict[str, Tensor]:
        return {"teacher": self.weight * self.loss(student, teacher, batch.index)}


def _feature_terms(choice: Choice, teaching: Teaching, network: Network, seed: int) -> FeatureTerms:
    weight, beta = choice.values["weight"], choice.values.get("beta", 1.0)

    def plain(student: Tensor, teacher: Tensor, batch: Batch) -> dict[str, Tensor]:
        return {"teacher": weight * PLAIN_FEATURE_LOSSES[choice.name](student, teacher)}

    def relational(student: Tensor, teacher: Tensor, batch: Batch) -> dict[str, Tensor]:
        distance, angle = losses.relational_losses(student, teacher)
        return {"distances": weight * distance, "angles": beta * angle}

    if choice.name in PLAIN_FEATURE_LOSSES:
        return plain
    if choice.name is MethodName.rkd:
        return relational
    split = teaching.split
    one = teaching.normalise(split.images[:1])
    pair = (network, *teaching.networks)
    student_width, teacher_width = (read(choice.method.tap, each.forward_features(one)).shape[1] for each in pair)
    loss: nn.Module
    if choice.name is MethodName.fitnet:
        loss = Hint(student_width, teacher_width)
    elif choice.name is MethodName.vid:
        loss = Variational(student_width, teacher_width)
    else:
        loss = Contrast(student_width, teacher_width, pictures=len(split), seed=seed)
    return _Weighted(weight, loss.to(split.images.device))
