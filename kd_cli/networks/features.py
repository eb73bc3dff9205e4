"""Features of any classifier: what one of its layers gives, read in the same forward pass as the logits.

A reference network gives its features itself, by the names of its layers. Any other network is read by a forward hook
on the layer, set for one call: nothing stays on the network, and its code is as its author wrote it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from kd_cli.config import KdError, suggest
from kd_cli.networks.classifier import Classifier
from kd_cli.networks.reference import StudentNet, TeacherNet

Network = TeacherNet | StudentNet

SEE_LAYERS = "kd list layers SPEC shows all"


@dataclass(frozen=True)
class Layer:
    """A place where a classifier is read: what a layer gives, or, flattened to (N, features), what it takes.

    Attributes:
        name: of the layer: as in ``named_modules()``, or in the features that a reference network gives.
        of_input: whether the layer's input is read in place of its output.
    """

    name: str
    of_input: bool = False

    def __str__(self) -> str:
        return f"input of {self.name}" if self.of_input else self.name

    def read(self, classifier: Classifier, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """The layer's features and the logits, from one forward pass.

        Of a layer that is used several times in a pass, the last time counts. Its output is copied, because a layer
        after it may change it in place.

        Args:
            classifier: the one that the layer belongs to.
            pixels: from 0 to 1, (N, C, H, W).

        Raises:
            KdError: the forward pass does not use the layer, or the layer does not give one tensor.
        """
        if isinstance(classifier.network, Network):
            features = classifier.forward_features(pixels)
            return features[self.name], next(reversed(features.values()))
        found: list[Any] = []

        def keep(_: nn.Module, __: Any, output: Any) -> None:
            found[:] = [output.clone() if isinstance(output, Tensor) else output]

        module = classifier.network.get_submodule(self.name)
        if self.of_input:
            handle = module.register_forward_pre_hook(lambda _, inputs: found.append(inputs[0].flatten(1)))
        else:
            handle = module.register_forward_hook(keep)
        try:
            logits = classifier(pixels)
        finally:
            handle.remove()
        if not found:
            raise KdError(f"layer {self.name} is not used by the network's forward pass: name another, {SEE_LAYERS}")
        if not isinstance(found[-1], Tensor):
            kind = type(found[-1]).__name__
            raise KdError(f"layer {self.name} gives a {kind}: name one that gives a single tensor, {SEE_LAYERS}")
        return found[-1].float(), logits  # in 32 bits, whatever the layers compute with


@dataclass(frozen=True)
class LayerUse:
    """A layer that a forward pass used: its name, its type, and the shape of its output, None if that is no tensor."""

    name: str
    kind: str
    shape: tuple[int, ...] | None


@torch.no_grad()
def trace(classifier: Classifier, pixels: Tensor) -> list[LayerUse]:
    """The layers that a forward pass uses, in the order in which they end, each time that they are used."""
    network = classifier.network
    with _evaluating(classifier):
        if isinstance(network, Network):
            features = classifier.forward_features(pixels)
            return [
                LayerUse(name, type(network.get_submodule(name)).__name__, tuple(feature.shape))
                for name, feature in features.items()
            ]
        uses: list[LayerUse] = []

        def note(name: str, module: nn.Module, _: Any, output: Any) -> None:
            shape = tuple(output.shape) if isinstance(output, Tensor) else None
            uses.append(LayerUse(name, type(module).__name__, shape))

        handles = [
            module.register_forward_hook(partial(note, name)) for name, module in network.named_modules() if name
        ]
        try:
            classifier(pixels)
        finally:
            for handle in handles:
                handle.remove()
        return uses


def find_penultimate(classifier: Classifier, pixels: Tensor) -> Layer:
    """What the last linear layer of a forward pass takes: (N, features).

    Raises:
        KdError: there is no linear layer.
    """
    uses = trace(classifier, pixels)
    if isinstance(classifier.network, Network):
        return Layer(uses[-2].name)
    for use in reversed(uses):
        if isinstance(classifier.network.get_submodule(use.name), nn.Linear):
            return Layer(use.name, of_input=True)
    raise KdError(f"the network has no linear layer, whose input would be its features: name a layer, {SEE_LAYERS}")


def find_maps(classifier: Classifier, pixels: Tensor) -> Layer:
    """The last layer of a forward pass that gives maps with height and width: (N, channels, height, width).

    Layers are told by the shape of their output, so of a network that keeps its maps as (N, height, width, channels)
    a layer is better named.

    Raises:
        KdError: no layer does.
    """
    for use in reversed(trace(classifier, pixels)):
        if has_maps(use.shape) and use.kind != "Identity":  # transformers pass heads of attention through one
            return Layer(use.name)
    raise KdError(f"no layer of the network gives maps with height and width: use another method, {SEE_LAYERS}")


def has_maps(shape: tuple[int, ...] | None) -> bool:
    """Whether an output has height and width: (N, C, 1, 1) is what a pool over all places leaves."""
    return shape is not None and len(shape) == 4 and shape[2:] != (1, 1)


def find_layer(classifier: Classifier, name: str, pixels: Tensor) -> Layer:
    """The layer of this name.

    Raises:
        KdError: a forward pass uses none of this name; names those that are most similar.
    """
    names = list(dict.fromkeys(use.name for use in trace(classifier, pixels)))
    if name in names:
        return Layer(name)
    hint = suggest(name, names, 3, cutoff=0.4)
    raise KdError(f"the network has no layer {name!r}: {f'{hint} ' if hint else ''}{SEE_LAYERS}")


@torch.no_grad()
def measure(layer: Layer, classifier: Classifier, pixels: Tensor) -> tuple[int, ...]:
    """The shape of a layer's features for one image.

    Raises:
        KdError: as `Layer.read`.
    """
    with _evaluating(classifier):
        return tuple(layer.read(classifier, pixels)[0].shape[1:])


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    """One image must not change the statistics of normalisation layers."""
    training = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(training)
