"""The distillation methods by name: their papers, what they read from the networks, their options and defaults.

Free of torch, so that the command line can refuse what cannot work before anything slow is imported. A new method is a
row here, and the function in `losses` or the module in `projections` that the row names.

The default weights are the papers' own for CIFAR-100, or, where a paper has none for a single training stage (FitNets,
PKT, VID, CC), those of the comparison in Tian et al. 2020, section 4.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal

from kd_cli.config import Config, ConfigError, KdError, option, require_name
from kd_cli.networks.spec import Spec

OPTION_SYMBOLS = {"temperature": "T", "student_layer": "student at", "teacher_layer": "teacher at"}
"""How an option is shown where its name would be long."""

WEIGHTS = ("alpha", "weight", "beta")
"""The options that multiply a method's terms. All others are arguments of its loss."""


@dataclass(frozen=True)
class Range:
    """Where ``kd tune`` searches an option, both ends included; ``log`` if its order of magnitude is what matters."""

    low: float
    high: float
    log: bool = True

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}"


LEARNING_RATES = Range(1e-4, 3e-2)
"""Where ``kd tune`` searches the learning rate, of every method and of the baseline."""

_TEMPERATURES = Range(1, 20)


class FeatureLevel(Enum):
    """Where a method reads the networks."""

    nothing = "nothing"
    logits = "logits"
    penultimate = "penultimate"
    """A layer's features, (N, ...); unless one is named, what the last linear layer takes, (N, features)."""
    maps = "maps"
    """Maps, (N, channels, height, width); unless a layer is named, those of the last one that has some."""


@dataclass(frozen=True)
class Method:
    """A way to distil.

    Attributes:
        short: authors and year, or a few words where there is no paper.
        title: of the paper.
        equation: where the loss stands in the paper.
        reads: where the loss reads student and teacher.
        label_weight: weight of the cross-entropy with the labels; None where `alpha` decides.
        options: the names of the method's options, fields of `MethodConfig`, and their defaults.
        ranges: where ``kd tune`` searches them. Those of weights go down to where the teacher hardly counts. A weight
            that scales the whole loss has none: Adam takes no notice of it.
        loss: the name of its function in `losses`, or of its module in `projections`.
        needs_labels: whether the loss itself reads the labels.
        averages: what of several teachers is averaged.
    """

    short: str
    title: str
    equation: str
    reads: FeatureLevel
    label_weight: float | None
    loss: str
    options: Mapping[str, float] = field(default_factory=dict)
    ranges: Mapping[str, Range] = field(default_factory=dict)
    needs_labels: bool = False
    averages: Literal["probabilities", "logits"] = "probabilities"

    @property
    def reads_features(self) -> bool:
        """Whether it compares what is between a network's images and its logits."""
        return self.reads in (FeatureLevel.penultimate, FeatureLevel.maps)

    @property
    def paper(self) -> str:
        """Authors, year and title."""
        return f'{self.short}, "{self.title}"' if self.title else self.short


_LOGITS, _PENULTIMATE, _MAPS = FeatureLevel.logits, FeatureLevel.penultimate, FeatureLevel.maps

# fmt: off
METHODS: Mapping[str, Method] = {
    "labels": Method(
        "labels alone, no teacher", "", "",
        FeatureLevel.nothing, 1, ""),
    "kl": Method(
        "plain KL, T = 1, no labels", "", "",
        _LOGITS, 0, "soft_target_loss"),
    "kd": Method(
        "Hinton et al. 2015", "Distilling the Knowledge in a Neural Network", "section 2",
        _LOGITS, None, "soft_target_loss", {"temperature": 4, "alpha": 0.9},
        {"temperature": _TEMPERATURES, "alpha": Range(0.01, 1, log=False)}),
    "mse": Method(
        "Ba & Caruana 2014", "Do Deep Nets Really Need to be Deep?", "equation 1",
        _LOGITS, 0, "logit_matching_loss", {"weight": 1}, averages="logits"),
    "dkd": Method(
        "Zhao et al. 2022", "Decoupled Knowledge Distillation", "equations 6 and 7",
        _LOGITS, 1, "decoupled_losses", {"temperature": 4, "weight": 1, "beta": 8},
        {"temperature": _TEMPERATURES, "weight": Range(0.001, 10), "beta": Range(0.001, 10)}, needs_labels=True),
    "dist": Method(
        "Huang et al. 2022", "Knowledge Distillation from A Stronger Teacher", "equations 8 and 9",
        _LOGITS, 1, "relation_losses", {"temperature": 4, "weight": 2, "beta": 2},
        {"temperature": _TEMPERATURES, "weight": Range(0.002, 20), "beta": Range(0.002, 20)}),
    "logit-std": Method(
        "Sun et al. 2024", "Logit Standardization in Knowledge Distillation", "algorithm 1",
        _LOGITS, 0.1, "standardised_soft_target_loss", {"temperature": 2, "weight": 9},
        {"temperature": _TEMPERATURES, "weight": Range(0.001, 10)}),
    "fitnet": Method(
        "Romero et al. 2015", "FitNets: Hints for Thin Deep Nets", "equation 3",
        _PENULTIMATE, 1, "Hint", {"weight": 100}, {"weight": Range(0.1, 1000)}),
    "at": Method(
        "Zagoruyko & Komodakis 2017", "Paying More Attention to Attention", "section 3.1, equation 2",
        _MAPS, 1, "attention_loss", {"weight": 1000}, {"weight": Range(1, 10_000)}),
    "sp": Method(
        "Tung & Mori 2019", "Similarity-Preserving Knowledge Distillation", "equations 1 to 4",
        _PENULTIMATE, 1, "similarity_loss", {"weight": 3000}, {"weight": Range(3, 30_000)}),
    "rkd": Method(
        "Park et al. 2019", "Relational Knowledge Distillation", "equations 4 to 8",
        _PENULTIMATE, 1, "relational_losses", {"weight": 25, "beta": 50},
        {"weight": Range(0.025, 250), "beta": Range(0.05, 500)}),
    "pkt": Method(
        "Passalis & Tefas 2018", "Learning Deep Representations with Probabilistic Knowledge Transfer",
        "equations 3 to 9", _PENULTIMATE, 1, "probability_transfer_loss", {"weight": 30_000},
        {"weight": Range(30, 300_000)}),
    "cc": Method(
        "Peng et al. 2019", "Correlation Congruence for Knowledge Distillation", "equations 5 and 8",
        _PENULTIMATE, 1, "correlation_loss", {"weight": 0.02}, {"weight": Range(0.00002, 0.2)}),
    "vid": Method(
        "Ahn et al. 2019", "Variational Information Distillation for Knowledge Transfer", "equation 5",
        _PENULTIMATE, 1, "Variational", {"weight": 1}, {"weight": Range(0.001, 10)}),
    "crd": Method(
        "Tian et al. 2020", "Contrastive Representation Distillation", "equations 10, 17 and 18",
        _PENULTIMATE, 1, "Contrast", {"weight": 0.8}, {"weight": Range(0.001, 10)}),
}
# fmt: on


def find_method(name: str) -> Method:
    """The method of this name.

    Raises:
        ConfigError: there is none; names all methods, and the most similar one.
    """
    require_name("method", name, METHODS)
    return METHODS[name]


def describe_options(options: Mapping[str, float | str]) -> str:
    """A method's options as tables show them, e.g. ``T 4, alpha 0.9``."""
    return ", ".join(
        f"{OPTION_SYMBOLS.get(name, name)} {value if isinstance(value, str) else format(value, 'g')}"
        for name, value in options.items()
    )


def layer_option(role: str) -> Any:
    """The field of a configuration that names a layer of student or teacher."""
    return option(None, f"Layer of the {role} whose features are compared; see kd list layers.", metavar="LAYER")


@dataclass(frozen=True)
class MethodConfig(Config):
    """A method with a value for each of its options; None stands for its default, and then is None no more.

    At `alpha` 0 the teacher has no weight, so that is the baseline: `FROM_LABELS`.

    Raises:
        ConfigError: there is no such method, it has no such option, or a value is out of bounds.
    """

    method: str = option("kd", f"How to distil: {', '.join(METHODS)}; see kd list methods.", metavar="NAME")
    temperature: float | None = option(None, "Softness of the targets. Default: the method's.", above=0)
    alpha: float | None = option(None, "Teacher's share of the loss; 0: labels alone.", minimum=0, maximum=1)
    weight: float | None = option(None, "Weight of the method's (first) loss. Default: the method's.", above=0)
    beta: float | None = option(None, "Weight of its second loss. Default: the method's.", above=0)
    student_layer: str | None = layer_option("student")
    teacher_layer: str | None = layer_option("teacher")

    def __post_init__(self) -> None:
        super().__post_init__()
        defaults = find_method(self.method).options
        for name in self.options.keys() - defaults.keys():
            takers = ", ".join(method for method, row in METHODS.items() if name in row.options)
            own = ", ".join(f"--{own}" for own in defaults) or "none"
            raise ConfigError(f"{self.method} has no --{name} (its options: {own}): leave it out, or use {takers}")
        if self.layers and not self.row.reads_features:
            readers = ", ".join(method for method, row in METHODS.items() if row.reads_features)
            raise ConfigError(
                f"{self.method} reads no layer: leave --student-layer and --teacher-layer out, or use one of {readers}"
            )
        values = {**defaults, **self.options}
        if values.get("alpha") == 0:
            object.__setattr__(self, "method", "labels")
            values = {}
        for name in _OPTIONS:
            object.__setattr__(self, name, float(values[name]) if name in values else None)

    @property
    def row(self) -> Method:
        """What is known of the method itself."""
        return METHODS[self.method]

    @property
    def options(self) -> dict[str, float]:
        """The method's options by name."""
        values = {name: getattr(self, name) for name in _OPTIONS}
        return {name: value for name, value in values.items() if value is not None}

    @property
    def layers(self) -> dict[str, str]:
        """The layers that were named, by the names of their options."""
        named = {"student_layer": self.student_layer, "teacher_layer": self.teacher_layer}
        return {option: layer for option, layer in named.items() if layer is not None}

    @property
    def settings(self) -> dict[str, float | str]:
        """All that the method was told: its options, and the layers that were named."""
        return self.options | self.layers

    @property
    def arguments(self) -> dict[str, float]:
        """The options that the method's loss takes as arguments."""
        return {name: value for name, value in self.options.items() if name not in WEIGHTS}

    @property
    def weights(self) -> tuple[float, float]:
        """Weights of the method's first and second term."""
        options = self.options
        return options.get("alpha", options.get("weight", 1.0)), options.get("beta", 1.0)

    @property
    def label_weight(self) -> float:
        """Weight of the cross-entropy with the labels."""
        return 1 - self.options["alpha"] if self.row.label_weight is None else self.row.label_weight

    @property
    def is_baseline(self) -> bool:
        """Whether the student is trained with labels alone, without a teacher."""
        return self.row.reads is FeatureLevel.nothing

    def __str__(self) -> str:
        return f"{self.method} ({describe_options(self.settings)})" if self.settings else self.method


_OPTIONS = ("temperature", "alpha", "weight", "beta")

FROM_LABELS = MethodConfig("labels")
"""The baseline of every claim about distillation."""


def require_possible(config: MethodConfig, student: Spec, teachers: Sequence[str] = ()) -> None:
    """Refuse a pair of networks that a method cannot work on, as far as their names tell.

    What others' networks give is known once they are built: `objective.build_objective` asks them.

    Args:
        config: the method.
        student: the student's architecture.
        teachers: the teachers' architectures, where they are known already.

    Raises:
        KdError: names a student, a teacher or a method that does work.
    """
    name = config.method
    if config.row.reads is FeatureLevel.maps:
        if student.family == "mlp":
            raise KdError(f"{name} compares spatial maps, and {student} has none: use a student such as cnn-8, or kd")
        for teacher in teachers:
            if teacher.startswith("mlp-"):
                raise KdError(
                    f"{name} compares spatial maps, and the teacher, {teacher}, has none: train a cnn-32, or use kd"
                )
    if config.row.reads_features and len(teachers) > 1:
        raise KdError(
            f"{name} compares features with those of one teacher, not of {len(teachers)}: give one, or use kd"
        )
