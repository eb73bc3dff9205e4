"""What all plots share: whether they can be drawn, how they look, and how they are saved.

Readable without colour: lines differ by marker and dash, bars are hatched, the cells of a matrix carry their numbers.
matplotlib is an extra and slow to import, so that only what draws imports it; and by its objects, because pyplot keeps
state and may look for a screen.
"""

import io
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from kd_cli.config import CostAxis, KdError
from kd_cli.files import require_output, write_atomically
from kd_cli.version import __version__

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAKER = f"kd plot {__version__}"

METADATA: dict[str, dict[str, Any]] = {
    ".png": {"Software": MAKER},
    ".svg": {"Creator": MAKER, "Date": None},
    ".pdf": {"Creator": MAKER, "CreationDate": None},
}
"""What a file of each kind says about itself: no date, so that the same result gives the same bytes."""

MARKS = {".png": b"Software\0kd plot ", ".svg": b"<dc:title>kd plot ", ".pdf": b"/Creator (kd plot "}
"""The beginning of that in a file's bytes."""

LARGEST_PLOT = 64 * 2**20
"""Bytes in which that is looked for."""

COLOURS = ("black", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#7f7f7f", "#56b4e9")
"""Those of Okabe & Ito 2008, which colour-blind people can tell apart."""

MARKERS = "os^Dv*PX<>"
DASHES = ("-", "--", "-.", ":")

COST_LABELS = {
    CostAxis.macs: "Multiply-accumulates per image (MACs)",
    CostAxis.parameters: "Parameters (count; not a cost)",
}

Shown = TypeVar("Shown")


def require_ready(path: Path | None, force: bool = False) -> None:
    """Find out before the work that its plot could not be drawn or written.

    Args:
        path: where it will be written, if one was asked for.
        force: replace a file that is no plot of ours.

    Raises:
        KdError: the name does not end as a plot's does, matplotlib is missing, or the file cannot be written or would
            be lost.
    """
    if path is None:
        return
    # A link must lead to a plot's name, too, so that it cannot lead to a checkpoint that the command will find.
    if not {path.suffix.lower(), Path(os.path.realpath(path)).suffix.lower()} <= METADATA.keys():
        raise KdError(f"cannot draw {path}: use a name that ends in {', '.join(METADATA)}")
    # Without a folder to write to, it warns that it uses a temporary one; on first use, that it looks for fonts.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    os.environ["MPLBACKEND"] = "agg"  # no screen is needed, and a name that it does not know would end its import
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise KdError("--plot needs matplotlib: pip install 'kd-cli[plot]'") from error
    require_output(path, is_our_plot, force=force)


def is_our_plot(path: Path) -> bool:
    """Whether `save` wrote a file, by what it says about itself."""
    try:
        with path.open("rb") as file:
            return MARKS[path.suffix.lower()] in file.read(LARGEST_PLOT)
    except OSError:
        return False


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
    # Names of classes and data sets may hold dollar signs, which are no formulas.
    with matplotlib.rc_context({"svg.hashsalt": "kd", "text.parse_math": False}):
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
