"""What teachers say of the training pictures: logits or features, computed once per picture wherever that is valid."""

import math
from collections.abc import Callable, Hashable, Sequence

import torch
from torch import Tensor

from kd_cli.batches import Batch
from kd_cli.data import Normalisation, Split
from kd_cli.methods import Tap
from kd_cli.networks import Network, compute_logits

Answer = Callable[[Tensor], Tensor]
"""Normalised pictures (N, 1, 28, 28) -> what a teacher says of them, (N, ...). A network is one: it says logits."""

Teacher = Callable[[Batch], Tensor]
"""What a teacher says of a batch of training pictures, (B, ...)."""

CACHE_BYTES = 2**27
"""Answers that take more memory than this are computed anew for each batch."""


class Teaching:
    """One or more teachers and the training pictures that they answer for.

    Without augmentation a picture always looks the same, so that its answer can be looked up by the picture's index
    (never by its position in a batch: shuffling cannot part the two).
    """

    def __init__(self, networks: Sequence[Network], split: Split, normalise: Normalisation, augment: bool) -> None:
        self.networks = [network.eval() for network in networks]
        self.split, self.normalise, self.augment = split, normalise, augment
        self._answers: dict[Hashable, Teacher] = {}

    def logits(self, temperature: float | None) -> Teacher:
        """The teacher's logits, (B, classes); of several teachers, the logits of their averaged probabilities.

        Hinton et al. 2015, section 3: an ensemble's soft targets are the mean of its members' softened probabilities.
        These logits give exactly that mean at ``temperature``; None averages the logits themselves, for methods that
        compare logits.
        """
        if len(self.networks) == 1:
            return self._teacher(Tap.logits, self.networks[0])
        return self._teacher(temperature, lambda images: average(self.networks, images, temperature))

    def features(self, tap: Tap) -> Teacher:
        """The (only) teacher's features at a tap."""
        (network,) = self.networks
        return self._teacher(tap, lambda images: read(tap, network.forward_features(images)))

    @torch.no_grad()
    def _teacher(self, key: Hashable, answer: Answer) -> Teacher:
        if key not in self._answers:
            one = answer(self.normalise(self.split.images[:1]))
            fits = one.nelement() * one.element_size() * len(self.split) <= CACHE_BYTES
            if fits and not self.augment:
                self._answers[key] = cached_teacher(answer, self.split, self.normalise)
            else:
                self._answers[key] = live_teacher(answer)
        return self._answers[key]


def read(tap: Tap, features: dict[str, Tensor]) -> Tensor:
    """The tapped one of a network's named features."""
    if tap is Tap.maps:
        return next(feature for feature in reversed(features.values()) if feature.ndim == 4)
    return list(features.values())[-2]


def average(networks: Sequence[Network], images: Tensor, temperature: float | None) -> Tensor:
    """Logits z whose ``softmax(z / T)`` is the mean of the networks'; where T is None, the mean of their logits."""
    logits = torch.stack([network(images) for network in networks])
    if temperature is None:
        return logits.mean(dim=0)
    log_probabilities = torch.log_softmax(logits / temperature, dim=2)
    return temperature * (log_probabilities.logsumexp(dim=0) - math.log(len(networks)))


def cached_teacher(answer: Answer, split: Split, normalise: Normalisation) -> Teacher:
    """Ask once about all training pictures, and look the answers up by each picture's row ever after."""
    answers = compute_logits(answer, split.images, normalise)
    return lambda batch: answers.index_select(0, batch.index)


def live_teacher(answer: Answer) -> Teacher:
    """Ask about every batch: what augmented pictures need, since no two epochs show the same ones."""

    def ask(batch: Batch) -> Tensor:
        with torch.no_grad():
            return answer(batch.images)

    return ask
