"""What a distillation minimises: a method's loss between student and teacher, and the cross-entropy with the labels.

A method is a row in `methods` and the function in `losses`, or the module in `projections`, that the row names.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kd_cli.config import KdError, Role
from kd_cli.data.batches import Batch
from kd_cli.data.dataset import to_pixels
from kd_cli.data.labels import NO_LABEL
from kd_cli.data.seeds import spawn_seeds
from kd_cli.distillation import losses, projections
from kd_cli.distillation.methods import FeatureLevel, MethodConfig
from kd_cli.distillation.projections import FeatureSizes
from kd_cli.distillation.teacher_outputs import Outputs, TeacherOutputs
from kd_cli.networks import features
from kd_cli.networks.features import Layer
from kd_cli.training.objective import Objective, Step, label_objective

Loss = Callable[..., Any]
"""(student's tensor, teacher's tensor, the method's arguments) -> one term, or a tuple of two."""


class Distillation(nn.Module):
    """The objective of a method. Its parameters are those of the method's own layers, if it has any.

    Args:
        config: the method.
        teacher: the teacher's outputs where the method reads them.
        layer: where it reads the student; None for its logits.
        loss: the method's function, or its module.
        all_labelled: whether every training image has a label.
        label_smoothing: share of each label that is spread over all classes.
    """

    def __init__(
        self,
        config: MethodConfig,
        teacher: Outputs,
        layer: Layer | None,
        loss: Loss,
        all_labelled: bool,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        self.layer, self.label_smoothing = layer, label_smoothing
        self.row, self.teacher, self.loss, self.all_labelled = config.row, teacher, loss, all_labelled
        self.arguments, self.weights, self.label_weight = config.arguments, config.weights, config.label_weight

    def forward(self, network: nn.Module, batch: Batch) -> Step:
        """One forward pass of the student, compared with the teacher and with the labels."""
        student, logits = self._read(network, batch)
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

    def _read(self, network: Any, batch: Batch) -> tuple[Tensor, Tensor]:
        """What the method reads from the student, and the student's logits, for the whole batch."""
        if self.layer is None:
            logits = batch.gather(network(batch.images))
            return logits, logits
        features, logits = self.layer.read(network, batch.images)
        return batch.gather(features), batch.gather(logits)

    def _cross_entropy(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The mean over the images that have a label; 0 for a batch without any."""
        if self.all_labelled:
            return F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
        count = (labels != NO_LABEL).sum().clamp_min(1)
        total = F.cross_entropy(
            logits, labels, ignore_index=NO_LABEL, reduction="sum", label_smoothing=self.label_smoothing
        )
        return total / count


def build_objective(
    config: MethodConfig,
    outputs: TeacherOutputs | None,
    network: nn.Module,
    seed: int,
    label_smoothing: float = 0.0,
) -> Objective:
    """The objective that trains a student by a method.

    Args:
        config: the method; the baseline minimises the cross-entropy with the labels alone.
        outputs: the teachers' outputs; None for the baseline.
        network: the student. It is left as it is, and so is torch's global random stream: with the same seed, every
            method starts from the same student.
        seed: the run's.
        label_smoothing: of the cross-entropy with the labels.

    Raises:
        KdError: a network has no layer that the method could read.
        ValueError: a method other than the baseline has no teacher, or several where it compares features.
    """
    if config.is_baseline:
        return partial(label_objective, label_smoothing=label_smoothing) if label_smoothing else label_objective
    if outputs is None:
        raise ValueError(f"{config.method} needs the outputs of a teacher")
    row, all_labelled = config.row, bool((outputs.split.labels != NO_LABEL).all())
    if row.reads is FeatureLevel.logits:
        averaged_at = config.options.get("temperature", 1.0) if row.averages == "probabilities" else None
        loss, teacher_logits = getattr(losses, row.loss), outputs.logits(averaged_at)
        return Distillation(config, teacher_logits, None, loss, all_labelled, label_smoothing)
    (classifier,) = outputs.classifiers
    pixels = to_pixels(outputs.split.images[:1])
    (student, student_shape), (teacher, teacher_shape) = locate_layers(config, network, classifier, pixels)
    loss = getattr(losses, row.loss, None)
    if loss is None:
        seeds = spawn_seeds(seed)
        sizes = FeatureSizes(student_shape, teacher_shape, images=len(outputs.split), seed=seeds.negatives)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seeds.method)  # `torch.manual_seed` would reseed the GPU's stream, too
            loss = getattr(projections, row.loss)(sizes).to(pixels.device)
    return Distillation(config, outputs.features(teacher), student, loss, all_labelled, label_smoothing)


def describe_outputs(objective: Objective) -> str | None:
    """How a distillation comes by the teacher's outputs, in a few words."""
    return str(objective.teacher) if isinstance(objective, Distillation) else None


def locate_layers(
    config: MethodConfig, student: nn.Module, teacher: nn.Module, pixels: Tensor
) -> tuple[tuple[Layer, tuple[int, ...]], tuple[Layer, tuple[int, ...]]]:
    """Where a method reads student and teacher: for each, the layer and the shape of what it gives for one image.

    Raises:
        KdError: one of them has no such layer, or it gives what the method does not take.
    """
    return _locate(config, Role.student, student, pixels), _locate(config, Role.teacher, teacher, pixels)


def _locate(config: MethodConfig, role: Role, network: Any, pixels: Tensor) -> tuple[Layer, tuple[int, ...]]:
    level = config.row.reads
    named = config.layers.get(f"{role.value}_layer")
    try:
        if named is not None:
            layer = features.find_layer(network, named, pixels)
        else:
            find = features.find_maps if level is FeatureLevel.maps else features.find_penultimate
            layer = find(network, pixels)
        shape = features.measure(layer, network, pixels)
    except KdError as error:
        raise KdError(f"--{role.value}-layer: {error}") from error
    if level is FeatureLevel.maps and len(shape) != 3:
        raise KdError(
            f"{config.method} compares maps (channels, height, width), and the {role.value}'s {layer} gives {shape}: "
            f"use another --{role.value}-layer, {features.SEE_LAYERS}"
        )
    return layer, shape
