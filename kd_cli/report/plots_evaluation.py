"""The quality of networks as a plot."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from kd_cli.commands.results import EvaluatedModel, EvaluationResult
from kd_cli.evaluation.statistics import CONFIDENCE
from kd_cli.report.evaluation import MOST_CLASSES, evaluation_title
from kd_cli.report.plots import line_style, new_figure
from kd_cli.report.tables import name_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


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
    axes.set_xlabel("Predicted as (class)")
    axes.set_ylabel("Label (class)")
    axes.set_title(f"{name_of(model)}: images,\nerrors shaded ({model.error_count:,} of them)", fontsize="medium")


def _draw_reliability(axes: "Axes", model: EvaluatedModel) -> None:
    from scipy.stats import binomtest  # Wilson's interval stays within 0 and 1, and is wide where images are few

    confidences, accuracies, reach = [], [], []
    for each in model.calibration:
        if each.confidence is not None and each.accuracy is not None:
            interval = binomtest(round(each.accuracy * each.count), each.count).proportion_ci(CONFIDENCE, "wilson")
            confidences.append(100 * each.confidence)
            accuracies.append(100 * each.accuracy)
            reach.append([100 * abs(end - each.accuracy) for end in interval])
    axes.plot([0, 100], [0, 100], color="grey", linestyle="--", linewidth=1, label="accuracy = confidence")
    axes.errorbar(
        confidences,
        accuracies,
        list(zip(*reach, strict=True)),
        capsize=3,
        label=f"images of a bin, with {100 * CONFIDENCE:g} % interval",
        **line_style(0) | {"linestyle": "none"},  # a line would join bins of one image as if they were worth as much
    )
    axes.set_xlim(-2, 102)
    axes.set_ylim(-3, 103)
    axes.set_xlabel("Mean confidence of a bin (%)")
    axes.set_ylabel("Accuracy (%)")
    axes.set_title(f"{name_of(model)}: reliability, ECE {model.ece:.4f}", fontsize="medium")
    axes.grid(alpha=0.3)


def _draw_counts(axes: "Axes", model: EvaluatedModel) -> None:
    number = len(model.calibration)
    bins = [each for each in model.calibration if each.count]
    counts = [each.count for each in bins]
    bars = axes.bar(
        [50 * (each.low + each.high) for each in bins],
        counts,
        width=100 / number,
        facecolor="white",
        edgecolor="black",
        hatch="///",
    )
    axes.bar_label(bars, [f"{count:,}" for count in counts], fontsize=7)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.set_xlim(-2, 102)
    axes.set_ylim(0.5, 10 * max(counts))
    axes.set_xlabel(f"Confidence (%), in {number} bins")
    axes.set_ylabel("Images (count),\nlogarithmic")


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
