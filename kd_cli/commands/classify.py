"""What a network predicts for images, and whether to believe it. Free of torch, where the network is."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from kd_cli.commands.results import Prediction, RankedClass
from kd_cli.data.dataset import DataInfo
from kd_cli.digits.signs import looks_like_no_digit
from kd_cli.evaluation.typical import compute_likeness
from kd_cli.networks.loaded import LoadedNetwork


def classify(
    network: LoadedNetwork, images: NDArray[np.uint8], top: int = 1, labels: Sequence[str | None] | None = None
) -> list[Prediction]:
    """Predict with one network.

    Args:
        network: from whatever kind of file.
        images: as its data has them, (N, channels, height, width).
        top: how many classes to list for each image, the most probable first.
        labels: the class of each image, where it is known.
    """
    classes, confidence = network.metadata.data.classes, network.metadata.confidence
    logits = network.compute_logits(images).astype(np.float64)
    rows = softmax(logits / (confidence.temperature if confidence else 1), axis=1).tolist()
    typical = confidence.typical if confidence else None
    unlike: list[bool | None] = [None] * len(rows)
    if typical is not None:
        unlike = (compute_likeness(logits, typical) < typical.least).tolist()
    return [
        _describe(row, classes, top, label, far)
        for row, label, far in zip(rows, labels or [None] * len(rows), unlike, strict=True)
    ]


def is_doubtful(predictions: Sequence[Prediction], seen: NDArray[np.uint8], data: DataInfo) -> bool | None:
    """Whether an image may show none of the classes; None where no checkpoint says when its network is unsure.

    The first network that can tell decides: where there is a teacher, its outputs tell more than a student's.

    Args:
        predictions: of each network, a teacher's before a student's.
        seen: what they saw, (channels, height, width).
        data: what they were trained on; of digits, the shape of the ink counts, too.
    """
    unlike = next((each.unlike for each in predictions if each.unlike is not None), None)
    return None if unlike is None else unlike or (data.is_digits and looks_like_no_digit(seen[0]))


def _describe(
    probabilities: list[float], classes: tuple[str, ...], top: int, label: str | None, unlike: bool | None
) -> Prediction:
    ranking = sorted(range(len(classes)), key=lambda i: -probabilities[i])
    best = ranking[0]
    return Prediction(
        class_index=best,
        label=classes[best],
        confidence=probabilities[best],
        probabilities=tuple(probabilities),
        top=tuple(RankedClass(i, classes[i], probabilities[i]) for i in ranking[:top]),
        correct=None if label is None else classes[best] == label,
        unlike=unlike,
    )
