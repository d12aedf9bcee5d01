"""How pictures tell things apart, in gray, too: by marker, line and shade together."""

from typing import Any

# Sequences of keyword arguments for `Axes.errorbar` and `Axes.plot`; colors differ in lightness.
LINES: tuple[dict[str, Any], ...] = (
    {"color": "#1b4f8a", "marker": "o", "linestyle": "-"},
    {"color": "#d9772b", "marker": "s", "linestyle": "--", "markerfacecolor": "white"},
    {"color": "#5b9a6f", "marker": "^", "linestyle": "-."},
    {"color": "#8a8a8a", "marker": "D", "linestyle": ":", "markerfacecolor": "white"},
)
MARKER_SIZE = 5
EMPHASIS = {"color": "#f2d16b", "zorder": 0, "linewidth": 9, "alpha": 0.7}
