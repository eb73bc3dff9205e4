"""What `kd evaluate` found, as a picture."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kd_cli.plots import device_of, line_style, new_figure, title_of
from kd_cli.report import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw_evaluation(result: Result) -> "Figure":
    """For each network: what it takes for what; how often it is right where it is how sure; pictures per bin."""
    models = result["models"]
    title = f"Quality on {result['dataset']}: {result['test_images']:,} test pictures\n{device_of(result)}"
    figure = new_figure(max(5.2 * len(models), 6), 10, title)
    rows = figure.subplots(3, len(models), squeeze=False, height_ratios=[5, 3.2, 1.6])
    classes = _drawable(result["classes"])
    darkest = max(1, *(count for model in models for row in _errors(model) for count in row))
    for column, model in enumerate(models):
        confusion, reliability, counts = rows[:, column]
        _draw_confusion(confusion, model, classes, darkest)
        _draw_reliability(reliability, model)
        _draw_counts(counts, model)
    return figure


def _draw_confusion(axes: "Axes", model: Result, classes: Sequence[str], darkest: int) -> None:
    """Every count as a number; errors the darker, the more there are. Right readings would drown them."""
    errors = _errors(model)
    axes.imshow(errors, cmap="Greys", vmin=0, vmax=darkest * 1.2)
    for i, row in enumerate(model["confusion"]):
        for j, count in enumerate(row):
            if count:
                axes.text(
                    *(j, i, f"{count:,}"),
                    ha="center",
                    va="center",
                    fontsize=8,
                    fontweight="bold" if i == j else "normal",
                    color="white" if errors[i][j] > 0.6 * darkest else "black",
                )
    places = range(len(classes))
    axes.set_xticks(places, classes, rotation=0 if max(map(len, classes)) < 3 else 90)
    axes.set_yticks(places, classes)
    axes.set_xlabel("Read as (class)")
    axes.set_ylabel("Label (class)")
    axes.set_title(f"{title_of(model)}: pictures,\nerrors shaded ({model['error_count']:,} of them)", fontsize="medium")


def _draw_reliability(axes: "Axes", model: Result) -> None:
    from scipy.stats import binomtest  # Wilson's interval stays within 0 and 1, and is wide where pictures are few

    bins = [each for each in model["calibration"] if each["count"]]
    right = [each["accuracy"] for each in bins]
    reach = [
        binomtest(round(each["accuracy"] * each["count"]), each["count"]).proportion_ci(0.95, "wilson") for each in bins
    ]
    below, above = ([100 * abs(end[side] - share) for end, share in zip(reach, right, strict=True)] for side in (0, 1))
    axes.plot([0, 100], [0, 100], color="grey", linestyle="--", linewidth=1, label="as right as sure")
    axes.errorbar(
        [100 * each["confidence"] for each in bins],
        [100 * share for share in right],
        [below, above],
        capsize=3,
        label="this network, 95 % interval",
        **line_style(0) | {"linestyle": "none"},  # a line would join bins of one picture as if they were worth as much
    )
    axes.set_xlim(-2, 102)
    axes.set_ylim(-3, 103)
    axes.set_xlabel("Mean confidence of a bin (%)")
    axes.set_ylabel("Read right (%)")
    axes.set_title(f"{title_of(model)}: reliability, ECE {100 * model['ece']:.2f} points", fontsize="medium")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small", loc="lower right")


def _draw_counts(axes: "Axes", model: Result) -> None:
    number = len(model["calibration"])
    bins = [each for each in model["calibration"] if each["count"]]
    counts = [each["count"] for each in bins]
    bars = axes.bar(
        [50 * (each["low"] + each["high"]) for each in bins],
        counts,
        width=100 / number,
        facecolor="white",
        edgecolor="black",
        hatch="///",
    )
    axes.bar_label(bars, [f"{count:,}" for count in counts], fontsize=7)
    axes.set_yscale("log")
    axes.set_xlim(-2, 102)
    axes.set_ylim(0.5, 10 * max(counts))
    axes.set_xlabel(f"Confidence (%), in {number} bins")
    axes.set_ylabel("Pictures (count),\nlogarithmic")


def _errors(model: Result) -> list[list[int]]:
    return [[0 if i == j else count for j, count in enumerate(row)] for i, row in enumerate(model["confusion"])]


def _drawable(classes: Sequence[str]) -> Sequence[str]:
    """The classes' names; their numbers where the font has no such letters (matplotlib's own has no kana)."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    font = get_font(findfont(FontProperties()))
    if all(font.get_char_index(ord(letter)) for name in classes for letter in name):
        return classes
    return [str(number) for number in range(len(classes))]
