"""Pictures inside a page: matplotlib's SVG as one element."""

import html
import io
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SIZE = (6.4, 3.4)  # inches
_SETTINGS: Any = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "flax-densenet",  # the same names inside, and so the same bytes, every time
}
_NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))
_NAME = re.compile(r'(\bid="|href="#|url\(#)')


def new_axes() -> "Axes":
    """Returns empty axes, alone in their figure."""
    from matplotlib.figure import Figure  # half a second to import

    axes: Axes = Figure(figsize=_SIZE, layout="constrained").subplots()
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def as_svg(axes: "Axes", label: str) -> str:
    """Returns the figure of the axes as an SVG element, with a legend below.

    Args:
      axes: The only axes of the figure.
      label: What the picture shows, for those who cannot see it. A page's pictures need labels of
        their own, since the names inside the element begin with it.
    """
    import matplotlib

    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.legend(
        loc="outside lower center", ncols=6, frameon=False, handlelength=1.8, columnspacing=1.2
    )
    file = io.StringIO()
    with matplotlib.rc_context(_SETTINGS):
        figure.savefig(file, format="svg", transparent=True, metadata=_NO_METADATA)
    element = file.getvalue().partition("<svg ")[2].strip()
    prefix = re.sub(r"\W+", "-", label)
    element = _NAME.sub(rf"\g<1>{prefix}-", element)
    return f'<svg role="img" aria-label="{html.escape(label)}" {element}'
