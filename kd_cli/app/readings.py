"""A picture's bytes -> what teacher and student make of it, and how long that took; and that as a piece of the page."""

import io
import time
from dataclasses import dataclass

import numpy as np

from kd_cli import predict
from kd_cli.app import show
from kd_cli.checkpoint import Checkpoint
from kd_cli.predict import Picture, Reading
from kd_cli.settings import Role


@dataclass(frozen=True)
class Answer:
    """The 28x28 picture that the networks saw, what each made of it, and the milliseconds that each step took.

    ``preparing_ms`` is None where the picture was 28x28 in the first place.
    """

    seen: Picture
    preparing_ms: float | None
    readings: dict[Role, Reading]
    reading_ms: dict[Role, float]
    classes: tuple[str, ...]

    def label(self, role: Role) -> str:
        """The class that a network took the picture for."""
        return self.classes[self.readings[role].class_index]


def read(content: bytes, name: str, networks: dict[Role, Checkpoint]) -> Answer:
    """Read a picture file with both networks, as ``kd predict`` does.

    Raises:
        KdError: the file is no picture, or damaged, too large or blank; the message calls it ``name``.
    """
    start = time.perf_counter()
    seen = predict.read_source(io.BytesIO(content), name)
    return classify(seen, networks, 1000 * (time.perf_counter() - start))


def classify(seen: Picture, networks: dict[Role, Checkpoint], preparing_ms: float | None = None) -> Answer:
    """Read a 28x28 picture with both networks, one after the other."""
    readings, times = {}, {}
    for role, network in networks.items():
        start = time.perf_counter()
        (readings[role],) = predict.classify(network, seen[np.newaxis])
        times[role] = 1000 * (time.perf_counter() - start)
    return Answer(seen, preparing_ms, readings, times, networks[Role.teacher].metadata.classes)


def as_html(answer: Answer, what: str) -> str:
    """Both networks' probabilities, the verdict, and the picture that they saw."""
    charts = "".join(
        show.bars(
            f"{role.value.capitalize()}: {answer.label(role)}",
            list(zip(answer.classes, reading.probabilities, strict=True)),
            role,
            f"{reading.confidence:.1%}, in {answer.reading_ms[role]:.2f} ms",
        )
        for role, reading in answer.readings.items()
    )
    picture = show.image(answer.seen, f"{what} as the networks saw it, 28 by 28 pixels", 140)
    caption = "What the networks saw"
    if answer.preparing_ms is not None:
        caption += f", prepared in {answer.preparing_ms:.1f} ms"
    return (
        f"{show.verdict(answer.label(Role.teacher), answer.label(Role.student))}"
        f'<div class="kd-reading">{charts}<figure>{picture}<figcaption>{caption}</figcaption></figure></div>'
    )
