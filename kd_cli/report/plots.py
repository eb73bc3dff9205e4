"""Results -> pictures. All that a picture shows comes from the dictionary that ``--json`` prints.

Readable without colour: lines differ by marker and dash, bars are hatched, the cells of a matrix carry their numbers.
matplotlib is an extra and slow to import, so that only what draws imports it; and by its objects, because pyplot keeps
state and may look for a screen.
"""

import io
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kd_cli.files import require_writable, write_atomically
from kd_cli.report import Result, training_title
from kd_cli.report_comparison import comparison_title, method_title
from kd_cli.settings import Cost, KdError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# What a file of each kind says about itself: no date, so that the same result gives the same bytes.
METADATA: dict[str, dict[str, Any]] = {".png": {}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}

COLOURS = ("black", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#7f7f7f", "#56b4e9")  # Okabe & Ito's, for all eyes
MARKERS = "os^Dv*PX<>"
DASHES = ("-", "--", "-.", ":")

LOSSES = {
    "labels": "cross-entropy (nats)",
    "kl": "KL from the teacher (nats)",
    "kd": "alpha T² KL + (1 - alpha) CE (nats)",
}
COSTS = {Cost.macs: "Multiply-accumulates per picture (MACs)", Cost.parameters: "Parameters (count)"}


def require_ready(path: Path | None) -> None:
    """Find out before the work that its picture could not be drawn or written.

    Raises:
        KdError: the ending is no picture's, matplotlib is missing, or the file cannot be written.
    """
    if path is None:
        return
    if path.suffix.lower() not in METADATA:
        raise KdError(f"cannot draw {path}: use a name that ends in {', '.join(METADATA)}")
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        raise KdError("--plot needs matplotlib: pip install 'kd-cli[plot]'") from None
    require_writable(path)


def save(path: Path | None, draw: Callable[[Result], "Figure"], result: Result) -> None:
    """Draw a result, if a picture was asked for, in the format that its file's name ends in.

    Raises:
        KdError: the file cannot be written.
    """
    if path is None:
        return
    import matplotlib

    kind = path.suffix.lower()
    content = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "kd"}):
        draw(result).savefig(content, format=kind[1:], dpi=150, metadata=METADATA[kind])
    write_atomically(path, content.getvalue())


def draw_training(result: Result) -> "Figure":
    """Training loss and test accuracy, epoch by epoch; of an ensemble, a line for each member."""
    from matplotlib.ticker import MaxNLocator

    members = result.get("members", [result])
    seeds = f"{len(members)} seeds" if len(members) > 1 else f"seed {result['seed']}"
    figure = new_figure(9, 4, f"{training_title(result)}\n{device_of(result)}, {seeds}")
    loss, accuracy = figure.subplots(1, 2)
    for number, member in enumerate(members):
        history = member["history"]
        style = line_style(number) | {"label": f"seed {member['seed']}", "markevery": max(1, len(history) // 15)}
        epochs = [epoch["epoch"] for epoch in history]
        loss.plot(epochs, [epoch["loss"] for epoch in history], **style)
        accuracy.plot(epochs, [100 * epoch["accuracy"] for epoch in history], **style)
    method = result["method"]
    loss.set_ylabel(f"Training loss:\n{LOSSES.get(method, f'that of {method} (no unit)')}")
    accuracy.set_ylabel(f"Test accuracy (%)\nof {result['test_images']:,} pictures")
    for axes, free in ((loss, "upper right"), (accuracy, "lower right")):
        axes.set_xlabel("Epoch (passes over the training pictures)")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small", loc=free)
    return figure


def draw_benchmark(result: Result) -> "Figure":
    """Accuracy against latency and against multiply-accumulates, side by side; both costs start at zero."""
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    figure = new_figure(9, 4.5, f"Cost on {result['dataset']}\n{device_of(result)}")
    latency, macs = figure.subplots(1, 2, sharey=True)
    for number, model in enumerate(result["models"]):
        style = line_style(number) | {"linestyle": "none", "markersize": 7}
        accuracy, p50, p95 = 100 * model["accuracy"], model["latency_ms"]["p50"], model["latency_ms"]["p95"]
        latency.errorbar([p50], [accuracy], xerr=[[0], [p95 - p50]], capsize=6, **style)
        label = f"{title_of(model)}: {model['parameters']:,} parameters, {model['size_bytes'] / 1000:,.0f} kB on disk"
        macs.plot([model["macs"]], [accuracy], label=label, **style)
    latency.set_ylabel("Test accuracy (%)")
    latency.set_xlabel("Latency of one picture, one thread (ms):\np50, with a bar to p95")
    macs.set_xlabel(COSTS[Cost.macs])
    macs.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    for axes in (latency, macs):
        axes.margins(0.15)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set_xlim(left=0)
        axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", fontsize="small")
    return figure


def draw_comparison(result: Result, cost: Cost = Cost.macs) -> "Figure":
    """Mean accuracy against the cost of the student, a line for each method, with standard deviations."""
    figure = new_figure(8, 5, f"{comparison_title(result)}\n{device_of(result)}")
    axes = figure.add_subplot()
    cells = result["cells"]
    costs = sorted({cell[cost.value] for cell in cells})
    span = max(costs[-1] / costs[0], 2)
    # Methods stand side by side, or they would hide each other; but no nearer to another student than to their own.
    spread = min([span**0.12, *((b / a) ** 0.8 for a, b in pairwise(costs))])
    methods = list(dict.fromkeys(method_title(cell) for cell in cells))
    for number, method in enumerate(methods):
        own = sorted((cell for cell in cells if method_title(cell) == method), key=lambda cell: int(cell[cost.value]))
        shift = spread ** ((number + 0.5) / len(methods) - 0.5)
        axes.errorbar(
            [cell[cost.value] * shift for cell in own],
            [100 * cell["mean"]["accuracy"] for cell in own],
            [100 * (cell["std"]["accuracy"] or 0) for cell in own],
            capsize=3,
            label=method,
            **line_style(number),
        )
    axes.set_xscale("log")
    axes.set_xlim(costs[0] / span**0.12, costs[-1] * span**0.12)
    axes.set_xticks(*_label_students(cells, cost, span))
    axes.minorticks_off()
    axes.set_xlabel(f"{COSTS[cost]} of the student, logarithmic; methods side by side")
    axes.set_ylabel("Test accuracy (%), mean and standard deviation")
    axes.grid(alpha=0.3)
    axes.legend(title="Taught by", fontsize="small")
    return figure


def _label_students(cells: Sequence[Result], cost: Cost, span: float) -> tuple[list[int], list[str]]:
    """Where students are on the axis of costs, and their names; those that would collide take turns to go lower."""
    names: dict[int, list[str]] = {}
    for cell in sorted(cells, key=lambda cell: int(cell[cost.value])):
        names.setdefault(cell[cost.value], []).append(cell["student"])
    labels, before, lower = [], 0.0, False
    for value, students in names.items():
        lower = not lower and value < before * span**0.15
        labels.append("\n\n" * lower + f"{value:,}\n{', '.join(dict.fromkeys(students))}")
        before = value
    return list(names), labels


def new_figure(width: float, height: float, title: str) -> "Figure":
    """An empty figure of this size in inches, with a title above all that will be in it."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    figure.suptitle(title, fontsize="large")
    return figure


def line_style(number: int) -> dict[str, Any]:
    """How the line with this number looks: another marker, dash and colour than the ones beside it."""
    colour = COLOURS[number % len(COLOURS)]
    return {
        "color": colour,
        "marker": MARKERS[number % len(MARKERS)],
        "markerfacecolor": "white" if number % 2 else colour,
        "linestyle": DASHES[number % len(DASHES)],
        "linewidth": 1.2,
        "markersize": 6,
    }


def title_of(model: Result) -> str:
    """What a network is called: its role and its architecture."""
    return f"{model['role'].capitalize()} {model['architecture']}"


def device_of(result: Result) -> str:
    """What the networks ran on, as every picture says."""
    return str(result["device_name"])
