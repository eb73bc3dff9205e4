"""Hinton, Vinyals & Dean 2015, "Distilling the Knowledge in a Neural Network", section 3: MNIST.

The paper leaves out epochs, batches, learning rates and the weight of the labels. Here validation images choose, among
equally many settings with the teacher as without: the learning rate, and with the teacher its share of the loss. The
norm that limits the teacher's weights is that of the paper's reference 5 (Hinton et al. 2012, appendix A.1): a squared
length of 15. Students learn by SGD with momentum, as that paper's networks do.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from kd_cli.commands.recipes import FROM_LABELS_TOO, Means, Paper, Reading, Recipe, Row, Setting
from kd_cli.config import LabelConfig, OptimiserName, Role, TrainingConfig
from kd_cli.distillation.methods import MethodConfig
from kd_cli.networks.spec import parse_spec

THREES = 1010
"""Test images of a 3."""

SEVENS_AND_EIGHTS = 2002
"""Test images of a 7 or an 8. Who can only say these two gets all others wrong."""

TEST_IMAGES = 10_000

WIDE_TEMPERATURES = (2.5, 8.0, 14.0, 20.0)
NARROW_TEMPERATURES = (1.0, 2.5, 4.0, 8.0, 20.0)


@dataclass(frozen=True)
class Scale:
    """How large the networks are, how they are trained, and on what share of the images the students are.

    ``settings`` are what validation images choose from for students from labels, ``soft_settings`` for those of the
    teacher; without any, all have the learning rate of ``training``.
    """

    teacher: str
    student: str
    wide: str
    narrow: str
    teacher_training: TrainingConfig
    training: TrainingConfig
    settings: tuple[Setting, ...] = ()
    soft_settings: tuple[Setting, ...] = ()
    train_fraction: float = 1.0


FULL = Scale(
    teacher="mlp-1200-1200:dropout=0.5:input-dropout=0.2:max-norm=3.87",
    student="mlp-800-800",
    wide="mlp-300-300",
    narrow="mlp-30-30",
    teacher_training=TrainingConfig(epochs=100, batch_size=250, lr=5e-4, augment=("shift",), threads=1),
    training=TrainingConfig(epochs=60, batch_size=250, optimiser=OptimiserName.sgd, threads=1),
    settings=(Setting(0.005), Setting(0.01), Setting(0.02), Setting(0.05)),
    soft_settings=(Setting(0.01, 0.5), Setting(0.02, 0.5), Setting(0.01, 0.9), Setting(0.02, 0.9)),
)

QUICK = Scale(
    teacher="mlp-400-400:dropout=0.2:input-dropout=0.1:max-norm=3.87",
    student="mlp-200-200",
    wide="mlp-100-100",
    narrow="mlp-10-10",
    teacher_training=TrainingConfig(epochs=12, batch_size=250, augment=("shift",), threads=1),
    training=TrainingConfig(epochs=30, batch_size=100, lr=0.01, optimiser=OptimiserName.sgd, threads=1),
    train_fraction=0.2,
)


def make_rows(scale: Scale) -> tuple[Row, ...]:
    """The results of section 3, with networks of a scale."""
    teacher = Recipe("teacher", parse_spec(scale.teacher), scale.teacher_training, role=Role.teacher)
    labels = LabelConfig(train_fraction=scale.train_fraction)
    plain = Recipe("student-labels", parse_spec(scale.student), scale.training, labels=labels, settings=scale.settings)
    teaching = replace(plain, teacher=teacher, settings=scale.soft_settings)
    soft = _at_temperature(teaching, 20, "student-soft")
    no_threes = replace(labels, omit_class=("3",))
    without_3 = replace(soft, name="student-no-3", labels=no_threes, sets_aside=True)
    without_3_labels = replace(plain, name="student-no-3-labels", labels=no_threes, sets_aside=True)
    two_classes = replace(labels, only_classes=("7", "8"))
    only_7_8 = replace(soft, name="student-7-8", labels=two_classes, sets_aside=True)
    only_7_8_labels = replace(plain, name="student-7-8-labels", labels=two_classes, sets_aside=True)
    return (
        Row(
            "teacher",
            "1200-1200 with dropout, max-norm and jitter: 67 errors",
            (Reading("errors", teacher, 67), Reading("student", plain)),
            "fewer errors than the student from labels",
            lambda means: means["errors"] < means["student"],
        ),
        Row("labels", "800-800 from labels, without regularisation: 146 errors", (Reading("errors", plain, 146),)),
        Row(
            "soft",
            "800-800 with soft targets at T 20: 74 errors",
            (Reading("errors", soft, 74, plain),),
            "fewer errors than from labels",
            lambda means: means["errors"] < means["errors" + FROM_LABELS_TOO],
        ),
        Row(
            "wide",
            "300 units or more in each layer: all temperatures above 8 much the same",
            _sweep(plain, teaching, scale.wide, WIDE_TEMPERATURES),
            "temperatures from 8 have fewer errors than labels, and differ less from each other than from these",
            _high_temperatures_are_alike,
        ),
        Row(
            "narrow",
            "30 units in each layer: temperatures from 2.5 to 4 best",
            _sweep(plain, teaching, scale.narrow, NARROW_TEMPERATURES),
            "T 2.5 or 4 has fewest errors",
            lambda means: min(NARROW_TEMPERATURES, key=lambda t: means[_name(t)]) in (2.5, 4),
        ),
        Row(
            "no-3",
            "no 3 in the transfer set: 206 errors, 133 of them on threes",
            (
                Reading("errors", without_3, 206, without_3_labels),
                Reading("on threes", without_3, 133, without_3_labels, of_class="3"),
            ),
            "most threes are recognised, though none was seen",
            lambda means: means["on threes"] < THREES / 2,
        ),
        Row(
            "no-3-bias",
            "the same, with the bias of the 3 raised by 3.5: 109 errors, 14 of them on threes",
            (
                Reading("errors", without_3, 109, without_3_labels, fit_bias=("3",)),
                Reading("on threes", without_3, 14, without_3_labels, of_class="3", fit_bias=("3",)),
                Reading("errors without it", without_3),
            ),
            "fewer errors than without the bias",
            lambda means: means["errors"] < means["errors without it"],
        ),
        Row(
            "only-7-8",
            "7 and 8 alone in the transfer set: 47.3 % errors, 13.2 % with both biases lowered by 7.6",
            (
                Reading("errors", only_7_8, 4730, only_7_8_labels),
                Reading("with biases", only_7_8, 1320, only_7_8_labels, fit_bias=("7", "8")),
            ),
            "other digits are recognised, though none was seen; more of them with the biases",
            lambda means: means["with biases"] < means["errors"] < TEST_IMAGES - SEVENS_AND_EIGHTS,
        ),
    )


def _at_temperature(teaching: Recipe, temperature: float, name: str) -> Recipe:
    return replace(teaching, name=name, method=MethodConfig("kd", temperature=temperature))


def _sweep(plain: Recipe, teaching: Recipe, spec: str, temperatures: Sequence[float]) -> tuple[Reading, ...]:
    """The errors of a student at each temperature."""
    labels = replace(plain, name=f"{spec}-labels", architecture=parse_spec(spec))
    student = replace(teaching, architecture=parse_spec(spec))
    return tuple(
        Reading(_name(each), _at_temperature(student, each, f"{spec}-T{each:g}"), labels=labels)
        for each in temperatures
    )


def _name(temperature: float) -> str:
    return f"T {temperature:g}"


def _high_temperatures_are_alike(means: Means) -> bool:
    high = [means[_name(each)] for each in WIDE_TEMPERATURES if each >= 8]
    return max(high) - min(high) < means[_name(8) + FROM_LABELS_TOO] - sum(high) / len(high)


HINTON_2015 = Paper(
    'Hinton, Vinyals & Dean 2015, "Distilling the Knowledge in a Neural Network", section 3',
    "mnist",
    make_rows(FULL),
    make_rows(QUICK),
)
