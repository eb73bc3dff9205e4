"""An image -> what teacher and student predict, and how long that took; and that as a piece of the page."""

import io
import time
from dataclasses import dataclass

import numpy as np

from kd_cli.app import markup
from kd_cli.commands.image_files import see
from kd_cli.commands.predict import classify
from kd_cli.commands.results import Prediction
from kd_cli.config import Role
from kd_cli.digits.mnist_format import Image28
from kd_cli.networks.checkpoint import Checkpoint


@dataclass(frozen=True)
class Predictions:
    """What both networks predict for an image.

    Attributes:
        seen: the image as the networks saw it.
        by_role: each network's prediction.
        predicted_ms: the milliseconds that each took.
        classes: the names of the classes.
    """

    seen: Image28
    by_role: dict[Role, Prediction]
    predicted_ms: dict[Role, float]
    classes: tuple[str, ...]


def predict_file(content: bytes, name: str, networks: dict[Role, Checkpoint]) -> Predictions:
    """Predict an image file with both networks, as ``kd predict`` does.

    Raises:
        KdError: the file is no image, or damaged, too large or blank; the message calls it ``name``.
    """
    data = networks[Role.teacher].metadata.data
    return predict_image(see(io.BytesIO(content), name, data)[0], networks)


def predict_image(seen: Image28, networks: dict[Role, Checkpoint]) -> Predictions:
    """Predict a 28x28 image with both networks, one after the other."""
    by_role, predicted_ms = {}, {}
    for role, network in networks.items():
        classify(network, seen[np.newaxis, np.newaxis])  # or what is measured would be a cold start
        start = time.perf_counter()
        (by_role[role],) = classify(network, seen[np.newaxis, np.newaxis])
        predicted_ms[role] = 1000 * (time.perf_counter() - start)
    return Predictions(seen, by_role, predicted_ms, networks[Role.teacher].metadata.data.classes)


def as_html(found: Predictions, what: str) -> str:
    """Both networks' probabilities, whether they agree, and the image that they saw."""
    charts = "".join(
        markup.probabilities(
            f"{role.value.capitalize()}: {prediction.label}",
            list(zip(found.classes, prediction.probabilities, strict=True)),
            role,
            f"{prediction.confidence:.1%}, in {found.predicted_ms[role]:.2f} ms",
        )
        for role, prediction in found.by_role.items()
    )
    image = markup.image(found.seen, f"{what} as the networks saw it, 28 by 28 pixels", 140)
    return (
        f"{markup.verdict(*(prediction.label for prediction in found.by_role.values()))}"
        f'<div class="kd-predictions">{charts}<figure>{image}'
        "<figcaption>What the networks saw</figcaption></figure></div>"
    )
