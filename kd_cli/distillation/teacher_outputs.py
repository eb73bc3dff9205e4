"""Teachers' outputs for the training images: computed once for each image wherever that is valid."""

from collections.abc import Callable, Hashable, Sequence

import torch
from torch import Tensor

from kd_cli.data.batches import Batch
from kd_cli.data.dataset import Split, to_pixels
from kd_cli.networks.classifier import Classifier, compute_logits
from kd_cli.networks.features import Layer

Outputs = Callable[[Batch], Tensor]
"""A teacher's outputs for a batch of training images, (B, ...), without gradients."""

CACHE_BYTES = 2**27
"""Outputs that take more memory than this are computed anew for each batch."""


class TeacherOutputs:
    """The outputs of one or more teachers for a split of training images.

    Args:
        classifiers: the teachers.
        split: the images that the student is trained with.
        always_new: whether an image looks different in every epoch. Its outputs are then computed for each batch. Else
            they are looked up by the image's row in the split, never by its position in a batch, so that shuffling
            cannot give an image the outputs of another.
    """

    def __init__(self, classifiers: Sequence[Classifier], split: Split, always_new: bool) -> None:
        self.classifiers = [classifier.eval() for classifier in classifiers]
        self.split, self.always_new = split, always_new
        self._outputs: dict[Hashable, Outputs] = {}

    def logits(self, temperature: float | None) -> Outputs:
        """The teacher's logits, (B, classes); `average_logits` at this temperature where there are several teachers."""
        if len(self.classifiers) == 1:
            return self._prepare("logits", self.classifiers[0])
        return self._prepare(temperature, lambda pixels: average_logits(self.classifiers, pixels, temperature))

    def features(self, layer: Layer) -> Outputs:
        """What a layer of the only teacher gives.

        Raises:
            ValueError: there are several teachers.
        """
        (classifier,) = self.classifiers
        return self._prepare(layer, lambda pixels: layer.read(classifier, pixels)[0])

    @torch.no_grad()
    def _prepare(self, key: Hashable, compute: Callable[[Tensor], Tensor]) -> Outputs:
        if key not in self._outputs:
            one = compute(to_pixels(self.split.images[:1]))
            fits = one.nelement() * one.element_size() * len(self.split) <= CACHE_BYTES
            if fits and not self.always_new:
                self._outputs[key] = _look_up(compute_logits(compute, self.split.images))
            else:
                self._outputs[key] = _compute_live(compute)
        return self._outputs[key]


def _look_up(outputs: Tensor) -> Outputs:
    return lambda batch: outputs.index_select(0, batch.index)


def _compute_live(compute: Callable[[Tensor], Tensor]) -> Outputs:
    def outputs(batch: Batch) -> Tensor:
        with torch.no_grad():
            return compute(batch.images)

    return outputs


def average_logits(classifiers: Sequence[Classifier], pixels: Tensor, temperature: float | None) -> Tensor:
    """Logits z whose ``softmax(z / T)`` is the mean of the classifiers'; where T is None, the mean of their logits.

    Hinton et al. 2015, section 3: an ensemble's soft targets are the mean of its members' softened probabilities.

    Args:
        classifiers: at least one.
        pixels: from 0 to 1, (N, C, H, W).
        temperature: T > 0, or None for methods that compare the logits themselves.

    Returns:
        (N, classes).
    """
    logits = torch.stack([classifier(pixels) for classifier in classifiers])
    if temperature is None:
        return logits.mean(dim=0)
    # The logarithm of the sum: that of the mean differs by a constant, which no softmax sees.
    return temperature * torch.log_softmax(logits / temperature, dim=2).logsumexp(dim=0)
