"""The distillation methods by name: their papers, what they read from the networks, their options and defaults.

Free of torch, so that the command line can refuse what cannot work before anything slow is imported.

The default weights are the papers' own for CIFAR-100, or, where a paper has none for a single training stage (FitNets,
PKT, VID, CC), those of the comparison in Tian et al. 2020, section 4.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from kd_cli.settings import KdError, Spec


class MethodName(str, Enum):
    """What ``--method`` accepts."""

    labels = "labels"
    kl = "kl"
    kd = "kd"
    mse = "mse"
    dkd = "dkd"
    dist = "dist"
    logit_std = "logit-std"
    fitnet = "fitnet"
    at = "at"
    sp = "sp"
    rkd = "rkd"
    pkt = "pkt"
    cc = "cc"
    vid = "vid"
    crd = "crd"


class Tap(str, Enum):
    """Where a method reads the networks."""

    nothing = "nothing"
    logits = "logits"
    penultimate = "penultimate"
    """The features that the last layer reads, (N, features): `fc1` of cnn-N, the last hidden layer of an MLP."""
    maps = "maps"
    """The last layer with height and width, (N, channels, height, width): `conv1` of cnn-N; an MLP has none."""


@dataclass(frozen=True)
class Method:
    """A way to distil.

    ``options`` maps the names of its options to their defaults. ``labels`` is the weight of the cross-entropy with the
    hard labels beside it; None where `alpha` decides.
    """

    source: str
    tap: Tap
    labels: float | None
    options: Mapping[str, float]


METHODS: Mapping[MethodName, Method] = {
    MethodName.labels: Method("labels alone, no teacher", Tap.nothing, 1, {}),
    MethodName.kl: Method("plain KL, T = 1, no labels", Tap.logits, 0, {}),
    MethodName.kd: Method("Hinton et al. 2015", Tap.logits, None, {"temperature": 4, "alpha": 0.9}),
    MethodName.mse: Method("Ba & Caruana 2014", Tap.logits, 0, {"weight": 1}),
    MethodName.dkd: Method("Zhao et al. 2022", Tap.logits, 1, {"temperature": 4, "weight": 1, "beta": 8}),
    MethodName.dist: Method("Huang et al. 2022", Tap.logits, 1, {"temperature": 4, "weight": 2, "beta": 2}),
    MethodName.logit_std: Method("Sun et al. 2024", Tap.logits, 0.1, {"temperature": 2, "weight": 9}),
    MethodName.fitnet: Method("Romero et al. 2015", Tap.penultimate, 1, {"weight": 100}),
    MethodName.at: Method("Zagoruyko & Komodakis 2017", Tap.maps, 1, {"weight": 1000}),
    MethodName.sp: Method("Tung & Mori 2019", Tap.penultimate, 1, {"weight": 3000}),
    MethodName.rkd: Method("Park et al. 2019", Tap.penultimate, 1, {"weight": 25, "beta": 50}),
    MethodName.pkt: Method("Passalis & Tefas 2018", Tap.penultimate, 1, {"weight": 30_000}),
    MethodName.cc: Method("Peng et al. 2019", Tap.penultimate, 1, {"weight": 0.02}),
    MethodName.vid: Method("Ahn et al. 2019", Tap.penultimate, 1, {"weight": 1}),
    MethodName.crd: Method("Tian et al. 2020", Tap.penultimate, 1, {"weight": 0.8}),
}


@dataclass(frozen=True)
class Choice:
    """A method with a value for each of its options, e.g. kd at temperature 4 and alpha 0.9."""

    name: MethodName
    options: tuple[tuple[str, float], ...] = ()

    @property
    def method(self) -> Method:
        """What is known of the method itself."""
        return METHODS[self.name]

    @property
    def label_weight(self) -> float:
        """Weight of the cross-entropy with the hard labels."""
        return 1 - self.values["alpha"] if self.method.labels is None else self.method.labels

    @property
    def values(self) -> dict[str, float]:
        """The options by name."""
        return dict(self.options)

    def __str__(self) -> str:
        shown = {"temperature": "T"}
        details = ", ".join(f"{shown.get(name, name)} {value:g}" for name, value in self.options)
        return f"{self.name.value} ({details})" if details else self.name.value


FROM_LABELS = Choice(MethodName.labels)
"""The baseline of every claim about distillation."""


def choose(name: MethodName, given: Mapping[str, float | None]) -> Choice:
    """A method with the options given (None: not given) and its own defaults for the others.

    The teacher has no weight at `alpha` 0, so that is the baseline.

    Raises:
        KdError: the method has no such option; names the methods that do.
    """
    defaults = METHODS[name].options
    chosen = {option: value for option, value in given.items() if value is not None}
    for option in chosen:
        if option not in defaults:
            takers = ", ".join(other.value for other, method in METHODS.items() if option in method.options)
            own = ", ".join(f"--{own}" for own in defaults) or "none"
            raise KdError(f"{name.value} has no --{option} (its options: {own}): leave it away, or use {takers}")
    if chosen.get("alpha") == 0:
        return FROM_LABELS
    return Choice(name, tuple({**defaults, **chosen}.items()))


def require_possible(choice: Choice, student: Spec, teachers: Sequence[str] = ()) -> None:
    """Refuse a pair of networks that a method cannot work on.

    Args:
        choice: the method.
        student: the student's architecture.
        teachers: the teachers' architectures, where they are known already.

    Raises:
        KdError: names a student, a teacher or a method that does work.
    """
    name, tap = choice.name.value, choice.method.tap
    if tap is Tap.maps and student.family != "cnn":
        raise KdError(f"{name} compares spatial maps, and {student} has none: use a student such as cnn-8, or kd")
    for teacher in teachers:
        if tap is Tap.maps and not teacher.startswith("cnn-"):
            raise KdError(
                f"{name} compares spatial maps, and the teacher, {teacher}, has none: train a cnn-32, or use kd"
            )
    if tap in (Tap.penultimate, Tap.maps) and len(teachers) > 1:
        raise KdError(
            f"{name} compares features with those of one teacher, not of {len(teachers)}: give one, or use kd"
        )
