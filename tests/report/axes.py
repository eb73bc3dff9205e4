"""What a plot shows, read from the plot."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def axes_of(figure: "Figure") -> list[Any]:
    """The figure's axes, untyped: what they hold depends on what was drawn."""
    return figure.axes


def points(axes: Any, number: int = 0) -> tuple[list[float], list[float]]:
    """The points of a line."""
    x, y = axes.get_lines()[number].get_data()
    return list(x), list(y)
