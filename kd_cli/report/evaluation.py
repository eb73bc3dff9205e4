"""The quality of networks as Rich tables and as a plot."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from kd_cli.commands.results import EvaluatedModel, EvaluationResult
from kd_cli.config import ECE_BINS
from kd_cli.evaluation.measures import BiasedQuality, Opinion
from kd_cli.evaluation.statistics import CONFIDENCE
from kd_cli.report.plots import line_style, new_figure
from kd_cli.report.tables import (
    architecture_of,
    counted,
    name_of,
    new_table,
    number_roles,
    open_console,
    plain,
    print_checkpoints,
    print_line,
    print_table,
    table_of_models,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_CLASSES = 20
"""Of a confusion matrix that can be read. Of more classes, the pairs that are confused most often are shown."""

MOST_PAIRS = 20


def print_evaluation(result: EvaluationResult, details: bool = False, confusion: bool = False) -> None:
    """Quality of the networks, side by side.

    Args:
        result: of ``kd evaluate``.
        details: also how far their confidence can be trusted, and where they disagree.
        confusion: also which classes are predicted as which.
    """
    console = open_console()

    def measures(model: EvaluatedModel) -> Iterator[tuple[str, str]]:
        shares = zip(model.per_class_accuracy, result.classes, strict=True)
        weakest, weakest_class = min((share, name) for share, name in shares if share is not None)
        yield "Architecture", architecture_of(model)
        yield "Trained with", model.method
        yield "Accuracy", _percent(model.accuracy)
        yield "Errors", f"{model.error_count:,}"
        if biased := model.with_class_bias:
            yield "  with class bias", f"{biased.quality.error_count:,}"
        yield "NLL (nats)", f"{model.nll:.4f}"
        yield f"ECE ({ECE_BINS} bins)", f"{model.ece:.4f}"
        yield "  as kd predict states it", _scaled_ece(model)
        yield "Agreement with teacher", _percent(model.agreement)
        yield "Weakest class", f"{weakest_class} ({_percent(weakest)})"
        yield "Parameters", f"{model.parameters:,}"

    print_table(console, table_of_models(evaluation_title(result), result.device_name, result.models, measures))
    print_line(console, "Parameters are not cost: kd benchmark counts multiply-accumulates (MACs) and measures time.")
    print_checkpoints(console, result.dataset, result.models)
    for role, model in zip(number_roles(result.models), result.models, strict=True):
        if model.with_class_bias:
            print_line(console, f"{role}: {_describe_bias(model.with_class_bias)}")
    if details:
        _print_details(console, result)
    if confusion:
        for role, model in zip(number_roles(result.models), result.models, strict=True):
            show = _confusion if len(result.classes) <= MOST_CLASSES else _confused_pairs
            print_table(console, show(role, model, result.classes))
    if not (details or confusion):
        print_line(console, "More: --details (by class, by confidence, disagreements) and --confusion.")


def evaluation_title(result: EvaluationResult) -> str:
    """What was evaluated, and on how many images."""
    return f"Quality on {result.dataset}: {result.test_images:,} test images"


def _describe_bias(biased: BiasedQuality) -> str:
    values = ", ".join(f"{name} {value:+.2f}" for name, value in biased.biases.items())
    origin = "" if biased.fitted_to is None else f", fitted to {biased.fitted_to:,} validation images"
    return f"class bias {values}{origin}"


def _scaled_ece(model: EvaluatedModel) -> str:
    if model.scaled_ece is None:
        return "-"
    return f"{model.scaled_ece:.4f} (T {model.temperature:.2f})"


def _print_details(console: Console, result: EvaluationResult) -> None:
    models = result.models
    filled = [i for i in range(len(models[0].calibration)) if any(model.calibration[i].count for model in models)]

    def by_class(model: EvaluatedModel) -> Iterable[tuple[str, str]]:
        return zip(result.classes, map(_percent, model.per_class_accuracy), strict=True)

    def with_bias(model: EvaluatedModel) -> Iterable[tuple[str, str]]:
        assert model.with_class_bias is not None
        return zip(result.classes, map(_percent, model.with_class_bias.quality.per_class_accuracy), strict=True)

    def by_confidence(model: EvaluatedModel) -> Iterator[tuple[str, str]]:
        for each in (model.calibration[i] for i in filled):
            share = f"{each.accuracy:.1%} of {each.count:,}" if each.count else "-"
            yield f"{each.low:.0%} to {each.high:.0%}", share

    print_table(console, table_of_models("Accuracy by class", None, models, by_class, "Class"))
    if models[0].with_class_bias:
        print_table(console, table_of_models("Accuracy by class, with class bias", None, models, with_bias, "Class"))
    meaning = "calibrated: as accurate as confident"
    print_table(console, table_of_models("Accuracy by confidence", meaning, models, by_confidence, "Confidence"))
    for role, model in zip(number_roles(models), models, strict=True):
        if model.disagreements:
            print_table(console, _disagreements(role, model, result.classes))


def _confusion(role: str, model: EvaluatedModel, classes: Sequence[str]) -> Table:
    table = new_table(f"{role}: confusion", "rows: labels; columns: predictions", "", *classes)
    for i, (name, row) in enumerate(zip(classes, model.confusion, strict=True)):
        cells = (f"[dim]{n:,}[/]" if i == j else f"{n:,}" if n else "" for j, n in enumerate(row))
        table.add_row(plain(name), *cells)
    return table


def _confused_pairs(role: str, model: EvaluatedModel, classes: Sequence[str]) -> Table:
    errors = _errors(model)
    pairs = np.argsort(-errors, axis=None, kind="stable")[: np.count_nonzero(errors)]
    shown = pairs[:MOST_PAIRS]
    caption = f"{len(shown)} of {counted(len(pairs), 'pair')}"
    columns = ("Label", "Predicted as", "Images", "Of the label")
    table = new_table(f"{role}: classes confused most often", caption, *columns, left=2)
    for i, j in zip(*np.unravel_index(shown, errors.shape), strict=True):
        share = errors[i, j] / sum(model.confusion[i])
        table.add_row(plain(classes[i]), plain(classes[j]), f"{errors[i, j]:,}", f"{share:.1%}")
    return table


def _disagreements(role: str, model: EvaluatedModel, classes: Sequence[str]) -> Table:
    def show(opinion: Opinion) -> str:
        return plain(f"{classes[opinion.class_index]}  {opinion.confidence:6.1%}")

    title = f"Largest disagreements of {role.lower()} and teacher"
    columns = ("Test image", "Label", "Teacher", "Student", "KL")
    table = new_table(title, "KL(teacher || student) in nats", *columns, left=0)
    for each in model.disagreements or ():
        label = plain(classes[each.label])
        table.add_row(str(each.index), label, show(each.teacher), show(each.student), f"{each.divergence:.2f}")
    return table


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.2%}"


def draw_evaluation(result: EvaluationResult) -> "Figure":
    """For each network, one below the other: the confusion matrix, the reliability, and the images in each bin."""
    models = result.models
    figure = new_figure(max(5.2 * len(models), 6), 10, f"{evaluation_title(result)}\n{result.device_name}")
    rows = figure.subplots(3, len(models), squeeze=False, height_ratios=[5, 3.2, 1.6])
    classes = _drawable(result.classes)
    darkest = max(1, *(int(_errors(model).max()) for model in models))
    for column, model in enumerate(models):
        confusion, reliability, counts = rows[:, column]
        _draw_confusion(confusion, model, classes, darkest)
        _draw_reliability(reliability, model)
        _draw_counts(counts, model)
    figure.legend(*rows[1, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize="small")
    return figure


def _draw_confusion(axes: "Axes", model: EvaluatedModel, classes: Sequence[str], darkest: int) -> None:
    """Errors, the darker, the more there are: correct predictions would drown them. A few classes have names, too."""
    errors = _errors(model)
    axes.imshow(errors, cmap="Greys", vmin=0, vmax=darkest * 1.2)
    if len(classes) <= MOST_CLASSES:
        axes.set_xticks(range(len(classes)), classes, rotation=0 if max(map(len, classes)) < 3 else 90)
        axes.set_yticks(range(len(classes)), classes)
        for (i, j), count in np.ndenumerate(model.confusion):
            if count:
                axes.text(
                    *(j, i, f"{count:,}"),
                    ha="center",
                    va="center",
                    fontsize=8,
                    fontweight="bold" if i == j else "normal",
                    color="white" if errors[i, j] > 0.6 * darkest else "black",
                )
    axes.set(xlabel="Predicted as (class)", ylabel="Label (class)")
    axes.set_title(f"{name_of(model)}: images,\nerrors shaded ({model.error_count:,} of them)", fontsize="medium")


def _draw_reliability(axes: "Axes", model: EvaluatedModel) -> None:
    from scipy.stats import binomtest  # Wilson's interval stays within 0 and 1, and is wide where images are few

    bins = [each for each in model.calibration if each.count]
    accuracies = np.array([each.accuracy for each in bins], float)
    correct = [round(accuracy * each.count) for accuracy, each in zip(accuracies, bins, strict=True)]
    tests = [binomtest(count, each.count) for count, each in zip(correct, bins, strict=True)]
    intervals = np.array([test.proportion_ci(CONFIDENCE, "wilson") for test in tests])
    axes.plot([0, 100], [0, 100], color="grey", linestyle="--", linewidth=1, label="accuracy = confidence")
    axes.errorbar(
        [100 * (each.confidence or 0) for each in bins],
        100 * accuracies,
        100 * abs(intervals.T - accuracies),
        capsize=3,
        label=f"images of a bin, with {100 * CONFIDENCE:g} % interval",
        **line_style(0) | {"linestyle": "none"},  # a line would join bins of one image as if they were worth as much
    )
    axes.set(xlim=(-2, 102), ylim=(-3, 103), xlabel="Mean confidence of a bin (%)", ylabel="Accuracy (%)")
    axes.set_title(f"{name_of(model)}: reliability, ECE {model.ece:.4f}", fontsize="medium")
    axes.grid(alpha=0.3)


def _draw_counts(axes: "Axes", model: EvaluatedModel) -> None:
    bins = [each for each in model.calibration if each.count]
    counts = [each.count for each in bins]
    middles, width = [50 * (each.low + each.high) for each in bins], 100 / len(model.calibration)
    bars = axes.bar(middles, counts, width, facecolor="white", edgecolor="black", hatch="///")
    axes.bar_label(bars, [f"{count:,}" for count in counts], fontsize=7)
    axes.set(xlim=(-2, 102), ylim=(0.5, 10 * max(counts)), yscale="log", ylabel="Images (count),\nlogarithmic")
    axes.set_xlabel(f"Confidence (%), in {len(model.calibration)} bins")
    axes.yaxis.set_major_formatter("{x:,.0f}")


def _errors(model: EvaluatedModel) -> NDArray[np.int64]:
    confusion = np.array(model.confusion)
    return confusion - np.diag(confusion.diagonal())


def _drawable(classes: Sequence[str]) -> Sequence[str]:
    """The classes' names; their numbers where the font has no such letters (matplotlib's own has no kana)."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    font = get_font(findfont(FontProperties()))
    if all(font.get_char_index(ord(letter)) for name in classes for letter in name):
        return classes
    return [str(number) for number in range(len(classes))]
