"""What is measured of a network: its quality and its cost. Free of torch."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Bin:
    """Images of similar confidence, from ``low`` to below ``high``; the means are None where there are none."""

    low: float
    high: float
    count: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True)
class Opinion:
    """A network's prediction for an image, and its confidence."""

    class_index: int
    confidence: float


@dataclass(frozen=True)
class Disagreement:
    """A test image for which student and teacher predict different classes.

    ``divergence`` is KL(teacher || student) in nats.
    """

    index: int
    label: int
    teacher: Opinion
    student: Opinion
    divergence: float


@dataclass(frozen=True)
class Quality:
    """What a network's logits say about labelled images.

    ``nll`` is the mean cross-entropy in nats. ``confusion[i][j]`` counts images of class i predicted as class j.
    ``agreement`` is the share of images with the same prediction as the teacher's.
    """

    accuracy: float
    error_count: int
    nll: float
    ece: float
    agreement: float | None
    per_class_accuracy: tuple[float | None, ...]
    confusion: tuple[tuple[int, ...], ...]
    calibration: tuple[Bin, ...]


@dataclass(frozen=True)
class BiasedQuality:
    """What a network's logits say once a number is added to those of some classes.

    ``biases`` are these numbers by the classes' names. ``fitted_to`` is how many validation images they were fitted
    to; None where they were given.
    """

    biases: dict[str, float]
    fitted_to: int | None
    quality: Quality


@dataclass(frozen=True)
class Quartiles:
    """What a quarter, and what three quarters, of the repeats stay below: the middle half lies between."""

    p25: float
    p75: float


@dataclass(frozen=True)
class Percentiles:
    """Milliseconds that a quarter, half, three quarters, 95 % and 99 % of the calls stay below."""

    p25: float
    p50: float
    p75: float
    p95: float
    p99: float


@dataclass(frozen=True)
class Cost:
    """How long it takes to run a network.

    ``latency_ms`` is one image at a time, with one thread; ``throughput_per_s`` counts images in batches of 500, the
    median of repeats; ``test_set_seconds`` takes the whole test set from uint8 pixels to logits.
    """

    latency_ms: Percentiles
    throughput_per_s: float
    throughput_quartiles_per_s: Quartiles
    test_set_seconds: float


@dataclass(frozen=True)
class Speed:
    """How fast a network runs with so many threads.

    ``latency_ms`` is one image at a time; ``throughput_per_s`` counts images in batches of ``batch_size``, of those
    that were tried the one with most images per second.
    """

    threads: int
    latency_ms: Percentiles
    batch_size: int
    throughput_per_s: float
