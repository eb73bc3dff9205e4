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
from torch.autograd import Variable
from torch.nn import functional as F

from kd_cli import graded, losses
from kd_cli.batches import Batch
from kd_cli.graded import Graded
from kd_cli.labels import NO_LABEL
from kd_cli.methods import Choice, MethodName, Tap
from kd_cli.networks import Network
from kd_cli.projections import Contrast, Hint, Variational
from kd_cli.teaching import Teacher, Teaching, read


@dataclass(frozen=True)
class Step:
    """One step's logits, (B, classes), the scalar to minimise, and the weighted terms that it is the sum of.

    ``gradient`` is the loss's with respect to the logits, where it is known already; the loss then has no history.
    """

    logits: Tensor
    loss: Tensor
    terms: dict[str, Tensor]
    gradient: Tensor | None = None

    def backward(self) -> None:
        """Add the loss's gradient to that of every parameter."""
        if self.gradient is None:
            self.loss.backward()
        else:
            # What `logits.backward(gradient)` comes to. Before that it compares the two shapes by way of the compiler's
            # symbolic arithmetic, which takes 0.3 seconds to import and then a twentieth of a small student's step.
            Variable._execution_engine.run_backward(
                (self.logits,), (self.gradient,), False, False, (), allow_unreachable=True, accumulate_grad=True
            )


Objective = Callable[[Network, Batch], Step]

LogitLoss = Callable[[Tensor, Tensor], Graded]
"""A pair of logits, (2, classes, B), and the labels -> a method's loss, weighted."""

FeatureLoss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Student's features, teacher's features, the pictures' rows in the training split -> a method's loss, weighted."""


def from_labels(network: Network, batch: Batch) -> Step:
    """Cross-entropy with the hard labels: how a teacher learns, and the baseline of every distillation."""
    logits = network(batch.images)
    loss = F.cross_entropy(logits, batch.labels)
    return Step(logits, loss, {"labels": loss})


@dataclass(frozen=True)
class Labels:
    """The labels' part of a distillation: cross-entropy times a weight.

    Where some pictures have no label, the mean is over those that do, and 0 for a batch without any.
    """

    weight: float
    complete: bool

    def __call__(self, student: Tensor, labels: Tensor) -> dict[str, Graded]:
        """The term by its name, for logits (classes, B); none where it weighs nothing."""
        if self.weight == 0:
            return {}
        return {"labels": graded.cross_entropy(student, labels, self.weight, self.complete)}


@dataclass(frozen=True)
class LogitDistillation:
    """A loss between the student's logits and the teacher's, and the labels' part."""

    teacher: Teacher
    compare: LogitLoss
    labels: Labels

    def __call__(self, network: Network, batch: Batch) -> Step:
        """One forward pass of the student, compared with the teacher and with the labels."""
        logits = network(batch.images)
        with torch.inference_mode():  # the gradient is known: not even a record of no history is needed
            both = graded.pair(logits, self.teacher(batch))
            terms = {"teacher": self.compare(both, batch.labels)} | self.labels(both[0], batch.labels)
            loss, gradient = graded.add(*terms.values())
            return Step(logits, loss, {name: term.value for name, term in terms.items()}, gradient.T)


class FeatureDistillation(nn.Module):
    """A loss between features inside the student and inside the teacher, added to the labels'."""

    def __init__(self, teacher: Teacher, tap: Tap, compare: FeatureLoss, labels: Labels) -> None:
        super().__init__()
        self.teacher, self.tap, self.labels = teacher, tap, labels
        self.compare = compare  # where this is a module, its parameters are this objective's

    def forward(self, network: Network, batch: Batch) -> Step:
        """One forward pass of the student, compared with the teacher and with the labels."""
        features = network.forward_features(batch.images)
        *_, logits = features.values()
        loss = self.compare(read(self.tap, features), self.teacher(batch), batch.index)
        terms = {"teacher": loss.detach()}
        for name, term in self.labels(logits.detach().T, batch.labels).items():
            loss, terms[name] = loss + graded.connect(logits, term), term.value
        return Step(logits, loss, terms)


def bind(choice: Choice, teaching: Teaching | None, network: Network, seed: int) -> Objective:
    """The objective of a method for a student, with its teachers.

    A method's own layers are initialised from torch's global random stream, and after the student: with the same seed,
    every method starts from the same student.
    """
    if teaching is None or choice.method.tap is Tap.nothing:
        return from_labels
    tap = choice.method.tap
    labels = Labels(choice.label_weight, complete=bool((teaching.split.labels != NO_LABEL).all()))
    if tap is Tap.logits:
        return LogitDistillation(teaching.logits(_averaged_at(choice)), _logit_loss(choice), labels)
    compare = _feature_loss(choice, teaching, network, seed)
    return FeatureDistillation(teaching.features(tap), tap, compare, labels)


def _averaged_at(choice: Choice) -> float | None:
    """The temperature at which several teachers' probabilities are averaged; `mse` averages logits."""
    return None if choice.name is MethodName.mse else choice.values.get("temperature", 1.0)


def _logit_loss(choice: Choice) -> LogitLoss:
    options = choice.values
    temperature, weight, beta = options.get("temperature", 1.0), options.get("weight", 1.0), options.get("beta", 1.0)

    def soft_targets(both: Tensor, labels: Tensor) -> Graded:
        return graded.soft_targets(both, temperature, options.get("alpha", 1.0))

    def matching(both: Tensor, labels: Tensor) -> Graded:
        return graded.matching(both, weight)

    def decoupled(both: Tensor, labels: Tensor) -> Graded:
        return graded.decoupled(both, labels, temperature, weight, beta)

    def relations(both: Tensor, labels: Tensor) -> Graded:
        return graded.relations(both, temperature, weight, beta)

    def standardised(both: Tensor, labels: Tensor) -> Graded:
        return graded.standardised_soft_targets(both, temperature, weight)

    return {
        MethodName.kl: soft_targets,
        MethodName.kd: soft_targets,
        MethodName.mse: matching,
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

    def forward(self, student: Tensor, teacher: Tensor, index: Tensor) -> Tensor:
        loss: Tensor = self.loss(student, teacher, index)
        return self.weight * loss


def _feature_loss(choice: Choice, teaching: Teaching, network: Network, seed: int) -> FeatureLoss:
    weight, beta = choice.values["weight"], choice.values.get("beta", 1.0)

    def plain(student: Tensor, teacher: Tensor, index: Tensor) -> Tensor:
        return weight * PLAIN_FEATURE_LOSSES[choice.name](student, teacher)

    def relational(student: Tensor, teacher: Tensor, index: Tensor) -> Tensor:
        distance, angle = losses.relational_losses(student, teacher)
        return weight * distance + beta * angle

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
