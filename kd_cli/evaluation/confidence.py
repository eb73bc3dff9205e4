"""How far a network's confidences can be trusted: fitted when it is trained, used when it predicts."""

import math

from torch import Tensor

from kd_cli.evaluation.typical import find_typical
from kd_cli.networks.metadata import Confidence


def fit_confidence(logits: Tensor, labels: Tensor, seen_before: bool = False) -> Confidence:
    """Fit to logits, (N, classes), of images with labels, (N,).

    Args:
        logits: of images like those that the network will predict.
        labels: theirs.
        seen_before: whether the network learnt these very images, so that it is surer of them than of others: then its
            confidences stay as they are.
    """
    logits, labels = logits.cpu().double(), labels.cpu()
    temperature = 1.0 if seen_before else _fit_temperature(logits, labels)
    return Confidence(temperature, find_typical(logits.numpy(), labels.numpy()))


def _fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The T for which softmax(logits / T) has the least NLL (Guo et al. 2017, section 4.2).

    The NLL is convex in 1 / T, so its slope is bisected. T ends between 0.05 and 20.
    """
    own = logits.gather(1, labels[:, None]).mean()
    low, high = 0.05, 20.0
    for _ in range(40):
        middle = math.sqrt(low * high)
        expected = ((logits / middle).softmax(dim=1) * logits).sum(dim=1).mean()
        low, high = (middle, high) if expected > own else (low, middle)
    return middle
