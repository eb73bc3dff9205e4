"""What all plots share: whether they can be drawn, how they look, and how they are saved.

Readable without colour: lines differ by marker and dash, bars are hatched, the cells of a matrix carry their numbers.
matplotlib is an extra and slow to import, so that only what draws imports it; and by its objects, because pyplot keeps
state and may look for a screen.
"""

import io
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from kd_cli.config import CostAxis, KdError
from kd_cli.files import require_writable, write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

METADATA: dict[str, dict[str, Any]] = {".png": {}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
"""What a file of each kind says about itself: no date, so that the same result gives the same bytes."""

COLOURS = ("black", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#7f7f7f", "#56b4e9")
"""Those of Okabe & Ito 2008, which colour-blind people can tell apart."""

MARKERS = "os^Dv*PX<>"
DASHES = ("-", "--", "-.", ":")

COST_LABELS = {
    CostAxis.macs: "Multiply-accumulates per image (MACs)",
    CostAxis.parameters: "Parameters (count; not a cost)",
}

Shown = TypeVar("Shown")


def require_ready(path: Path | None) -> None:
    """Find out before the work that its plot could not be drawn or written.

    Raises:
        KdError: the name does not end as a plot's does, matplotlib is missing, or the file cannot be written.
    """
    if path is None:
        return
    if path.suffix.lower() not in METADATA:
        raise KdError(f"cannot draw {path}: use a name that ends in {', '.join(METADATA)}")
    # Without a folder to write to, it warns that it uses a temporary one; on first use, that it looks for fonts.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise KdError("--plot needs matplotlib: pip install 'kd-cli[plot]'") from error
    require_writable(path)


def save(path: Path | None, draw: Callable[[Shown], "Figure"], result: Shown) -> None:
    """Draw a result, if a plot was asked for, in the format that its file's name ends in.

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
