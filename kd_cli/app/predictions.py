"""An image -> what teacher and student predict, and how long that took; and that as a piece of the page."""

import io
import time
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from kd_cli.app import markup
from kd_cli.commands.classify import classify, is_doubtful
from kd_cli.commands.image_files import see
from kd_cli.commands.results import Prediction
from kd_cli.config import Role
from kd_cli.networks.checkpoint import Checkpoint


@dataclass(frozen=True)
class Predictions:
    """What both networks predict for an image.

    Attributes:
        seen: the image as the networks saw it, uint8 (channels, height, width).
        by_role: each network's prediction.
        predicted_ms: the milliseconds that each took.
        classes: the names of the classes.
        note: what else is to be said of the image.
        unsure: whether the image may show none of them.
    """

    seen: NDArray[np.uint8]
    by_role: dict[Role, Prediction]
    predicted_ms: dict[Role, float]
    classes: tuple[str, ...]
    note: str = ""
    unsure: bool = False


def predict_file(content: bytes, name: str, networks: dict[Role, Checkpoint]) -> Predictions:
    """Predict an image file with both networks, as ``kd predict`` does.

    Raises:
        KdError: the file is no image, or damaged, too large or, of handwriting, blank; the message calls it ``name``.
    """
    (seen,) = see(io.BytesIO(content), name, networks[Role.teacher].metadata.data)
    found = predict_image(seen.pixels, networks)
    if seen.digits is None or seen.digits == 1:
        return found
    note = f"Several digits: read no. {seen.digit} of {seen.digits}, with most ink. kd predict --all reads each."
    return replace(found, note=note)


def predict_image(seen: NDArray[np.uint8], networks: dict[Role, Checkpoint]) -> Predictions:
    """Predict an image, uint8 (channels, height, width), with both networks, one after the other."""
    images = np.array(seen)[np.newaxis]  # a copy: torch wants what it may write to
    by_role, predicted_ms = {}, {}
    for role, network in networks.items():
        classify(network, images)  # or what is measured would be a cold start
        start = time.perf_counter()
        (by_role[role],) = classify(network, images)
        predicted_ms[role] = 1000 * (time.perf_counter() - start)
    data = networks[Role.teacher].metadata.data
    unsure = is_doubtful(list(by_role.values()), seen, data)
    return Predictions(seen, by_role, predicted_ms, data.classes, unsure=bool(unsure))


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
    _, height, width = found.seen.shape
    image = markup.image(found.seen, f"{what} as the networks saw it, {width} by {height} pixels", 140)
    return (
        f"{markup.verdict(found.by_role[Role.teacher].label, found.by_role[Role.student].label, found.unsure)}"
        f"{markup.note(found.note)}"
        f'<div class="kd-predictions">{charts}<figure>{image}'
        "<figcaption>What the networks saw</figcaption></figure></div>"
    )
