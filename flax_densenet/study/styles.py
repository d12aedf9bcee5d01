"""Styles of lines that differ in gray, too."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Sequences of keyword arguments for `Axes.errorbar` and `Axes.plot`; colors differ in lightness.
LINES: tuple[dict[str, Any], ...] = (
    {"color": "#1b4f8a", "marker": "o", "linestyle": "-"},
    {"color": "#d9772b", "marker": "s", "linestyle": "--", "markerfacecolor": "white"},
    {"color": "#5b9a6f", "marker": "^", "linestyle": "-."},
    {"color": "#8a8a8a", "marker": "D", "linestyle": ":", "markerfacecolor": "white"},
)
MARKER_SIZE = 5
EMPHASIS = {"color": "#f2d16b", "zorder": 0, "linewidth": 9, "alpha": 0.7}


def logarithmic(axes: "Axes") -> None:
    """Gives the vertical axis a logarithmic scale with plain numbers."""
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(_few_digits)


def _few_digits(value: float, position: float) -> str:
    """Returns the label of a small tick; only ticks at 2 and 5 have one."""
    return f"{value:g}" if f"{value:e}"[0] in "25" else ""
