"""What a distillation minimises: a method's loss between student and teacher, and the cross-entropy with the labels.

A method is a row in `methods` and the function in `losses`, or the module in `projections`, that the row names.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kd_cli.data.batches import Batch
from kd_cli.data.dataset import to_pixels
from kd_cli.data.labels import NO_LABEL
from kd_cli.data.seeds import spawn_seeds
from kd_cli.distillation import losses, projections
from kd_cli.distillation.methods import FeatureLevel, MethodConfig
from kd_cli.distillation.projections import FeatureSizes
from kd_cli.distillation.teacher_outputs import Outputs, TeacherOutputs, read_features
from kd_cli.training.objective import Objective, Step, label_objective

Loss = Callable[..., Any]
"""(student's tensor, teacher's tensor, the method's arguments) -> one term, or a tuple of two."""


class Distillation(nn.Module):
    """The objective of a method. Its parameters are those of the method's own layers, if it has any.

    Args:
        config: the method.
        teacher: the teacher's outputs at the level that the method reads.
        loss: the method's function, or its module.
        all_labelled: whether every training image has a label.
    """

    def __init__(self, config: MethodConfig, teacher: Outputs, loss: Loss, all_labelled: bool) -> None:
        super().__init__()
        self.row, self.teacher, self.loss, self.all_labelled = config.row, teacher, loss, all_labelled
        self.arguments, self.weights, self.label_weight = config.arguments, config.weights, config.label_weight

    def forward(self, network: nn.Module, batch: Batch) -> Step:
        """One forward pass of the student, compared with the teacher and with the labels."""
        student, logits = self._read(network, batch.images)
        arguments: dict[str, float | Tensor] = {**self.arguments}
        if self.row.needs_labels:
            arguments["labels"] = batch.labels
        if isinstance(self.loss, nn.Module):
            arguments["index"] = batch.index
        parts = self.loss(student, self.teacher(batch), **arguments)
        if isinstance(parts, tuple):
            (first, second), (weight, beta) = parts, self.weights
            terms = {"teacher": weight * first + beta * second}
        else:
            terms = {"teacher": self.weights[0] * parts}
        if self.label_weight == 0:
            return Step(logits, terms["teacher"], terms)
        terms["labels"] = self.label_weight * self._cross_entropy(logits, batch.labels)
        return Step(logits, terms["teacher"] + terms["labels"], terms)

    def _read(self, network: Any, images: Tensor) -> tuple[Tensor, Tensor]:
        """What the method reads from the student, and the student's logits."""
        if self.row.reads is FeatureLevel.logits:
            logits = network(images)
            return logits, logits
        features = network.forward_features(images)
        return read_features(self.row.reads, features), read_features(FeatureLevel.logits, features)

    def _cross_entropy(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The mean over the images that have a label; 0 for a batch without any."""
        if self.all_labelled:
            return F.cross_entropy(logits, labels)
        count = (labels != NO_LABEL).sum().clamp_min(1)
        return F.cross_entropy(logits, labels, ignore_index=NO_LABEL, reduction="sum") / count


def build_objective(config: MethodConfig, outputs: TeacherOutputs | None, network: nn.Module, seed: int) -> Objective:
    """The objective that trains a student by a method.

    Args:
        config: the method; the baseline minimises the cross-entropy with the labels alone.
        outputs: the teachers' outputs; None for the baseline.
        network: the student. It is left as it is, and so is torch's global random stream: with the same seed, every
            method starts from the same student.
        seed: the run's.

    Raises:
        ValueError: a method other than the baseline has no teacher, or several where it compares features.
    """
    if config.is_baseline:
        return label_objective
    if outputs is None:
        raise ValueError(f"{config.method} needs the outputs of a teacher")
    row = config.row
    if row.reads is FeatureLevel.logits:
        averaged_at = config.options.get("temperature", 1.0) if row.averages == "probabilities" else None
        teacher = outputs.logits(averaged_at)
    else:
        teacher = outputs.features(row.reads)
    loss = getattr(losses, row.loss, None) or _build_module(config, outputs, network, seed)
    return Distillation(config, teacher, loss, bool((outputs.split.labels != NO_LABEL).all()))


def _build_module(config: MethodConfig, outputs: TeacherOutputs, network: nn.Module, seed: int) -> nn.Module:
    split, seeds, level = outputs.split, spawn_seeds(seed), config.row.reads
    pixels = to_pixels(split.images[:1])
    student, teacher = (_count_features(each, level, pixels) for each in (network, outputs.classifiers[0]))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seeds.method)  # `torch.manual_seed` would reseed the GPU's stream, too
        sizes = FeatureSizes(student, teacher, images=len(split), seed=seeds.negatives)
        module: nn.Module = getattr(projections, config.row.loss)(sizes)
    return module.to(split.images.device)


@torch.no_grad()
def _count_features(network: Any, level: FeatureLevel, pixels: Tensor) -> int:
    training = network.training
    network.eval()  # one image must not change the statistics of normalisation layers
    size: int = read_features(level, network.forward_features(pixels)).shape[1]
    network.train(training)
    return size
