"""Drawings of a report, as SVG: differences over the layers, and training curves."""

import html
import io
import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from flax_densenet.parity.differences import Difference
from flax_densenet.parity.ladder import Check
from flax_densenet.parity.page.stages import Stage
from flax_densenet.parity.report import by_layer, first_to_differ

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.ticker import MaxNLocator

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
      label: What the picture shows, for people who cannot see it. Each picture of a page needs
        another label, with which the names inside the element begin.
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


# Okabe and Ito's palette, which color-blind people can distinguish; in gray the line styles do.
COLORS = {
    "difference": "#0072b2",
    "differs": "#d55e00",
    "not decided": "#cc79a7",
    "allowed": "black",
    "rounding": "0.4",
}
_MAX_TICKS = 6
_FEW = 100  # points that can be drawn large


def draw_differences(axes: "Axes", positions: Sequence[int], rows: Sequence[Difference]) -> None:
    """Draws differences, what rounding does to PyTorch alone, and what is allowed.

    Args:
      axes: Empty axes.
      positions: Place of each difference on the horizontal axis.
      rows: The differences.
    """
    scale = _find_scale(rows)
    for quantity, style in (("allowed", "--"), ("rounding", ":")):
        values = [_logarithm(getattr(row, quantity)) for row in rows]
        if any(map(math.isfinite, values)):
            axes.plot(positions, values, style, color=COLORS[quantity], label=quantity)
    kinds = (
        ("difference", "o", lambda row: row.agrees and row.relative > 0),
        ("exactly 0", "o", lambda row: row.relative == 0),
        ("not decided", "s", lambda row: row.is_undecided),
        ("differs", "X", lambda row: row.differs),
    )
    size = 3.5 if len(rows) <= _FEW else 2
    logarithms = [_logarithm(row.relative) for row in rows]
    axes.plot(positions, logarithms, color=COLORS["difference"], linewidth=0.8)
    for kind, marker, belongs in kinds:
        pairs = zip(positions, rows, strict=True)
        shown = [(x, scale.place(row)) for x, row in pairs if belongs(row)]
        if shown:
            axes.plot(
                *zip(*shown, strict=True),
                marker,
                color=COLORS.get(kind, COLORS["difference"]),
                markerfacecolor="white" if kind == "exactly 0" else None,
                markersize=size * (1.7 if kind == "differs" else 1),
                label=kind,
                clip_on=False,
            )
    axes.set(ylabel="relative difference", ylim=(scale.zero, scale.nan))
    axes.set_yticks(*zip(*scale.ticks.items(), strict=True))


class _Scale(NamedTuple):
    """An axis of decimal logarithms, with a place for 0 below them and one for NaN above."""

    ticks: dict[int, str]
    zero: int
    nan: int

    def place(self, row: Difference) -> float:
        if row.relative == 0:
            return self.zero
        logarithm = _logarithm(row.relative)
        return self.nan if math.isnan(logarithm) else logarithm


def _find_scale(rows: Sequence[Difference]) -> _Scale:
    finite = [
        logarithm
        for row in rows
        for value in (row.relative, row.rounding, row.allowed, row.tolerance)
        if not math.isnan(logarithm := _logarithm(value))
    ]
    low, high = math.floor(min(finite)), math.ceil(max(finite))
    step = max(1, math.ceil((high - low) / _MAX_TICKS))
    ticks = {power: f"1e{power:+03d}" for power in range(high, low - 1, -step)}
    zero, nan = low - step, high + step
    if any(row.relative == 0 for row in rows):
        ticks[zero] = "0"
    if any(not math.isfinite(row.relative) for row in rows):
        ticks[nan] = "NaN"
    return _Scale(ticks, zero, nan)


def _logarithm(value: float | None) -> float:
    """Returns the decimal logarithm; NaN if there is none."""
    return math.log10(value) if value and math.isfinite(value) else math.nan


_WIDE = 0.1  # share of the axis that the word "block" needs


def plot_depth(check: Check, stages: Sequence[Stage], label: str) -> str:
    """Draws every layer's relative difference over its position in the network.

    Args:
      check: A check of modules, or of the arrays in them.
      stages: The parts of the network.
      label: What the picture shows (see `as_svg`).

    Returns:
      An SVG element.
    """
    found = by_layer(check)
    names = [layer.name for stage in stages for layer in stage.layers]
    positions = [number for number, name in enumerate(names) if name in found]
    axes = new_axes()
    for stage in stages:
        if stage.is_transition:
            axes.axvspan(stage.start - 0.5, stage.stop - 0.5, color="0.92", linewidth=0)
        if stage.is_block:
            is_wide = len(stage.layers) > _WIDE * len(names)
            axes.text(
                (stage.start + stage.stop - 1) / 2,
                1.02,
                stage.title if is_wide else stage.title.removeprefix("block "),
                transform=axes.get_xaxis_transform(),
                horizontalalignment="center",
                color="0.3",
            )
    draw_differences(axes, positions, [found[names[number]] for number in positions])
    first = first_to_differ(check)
    if first in names:
        where = names.index(first)
        axes.axvline(where, color=COLORS["differs"], linewidth=1, label="first to differ")
    axes.set(xlabel="layer (# in the table, in forward order)", xlim=(-0.5, len(names) - 0.5))
    return as_svg(axes, label)


def plot_losses(check: Check, label: str) -> str:
    """Draws both frameworks' training curves on top of each other.

    Args:
      check: The losses of all steps.
      label: What the picture shows (see `as_svg`).

    Returns:
      An SVG element.
    """
    flax, torch = zip(*(row.values for row in check.rows if row.values), strict=True)
    steps = range(1, len(flax) + 1)
    axes = new_axes()
    axes.plot(steps, flax, color=COLORS["difference"], linewidth=5, alpha=0.5, label="Flax")
    axes.plot(steps, torch, "--.", color="black", linewidth=1.2, label="PyTorch")
    axes.set(xlabel="training step", ylabel="cross-entropy (nats)")
    axes.xaxis.set_major_locator(_whole_numbers())
    return as_svg(axes, label)


def plot_loss_differences(check: Check, label: str) -> str:
    """Draws how far the training curves are apart.

    Args:
      check: The losses of all steps.
      label: What the picture shows (see `as_svg`).

    Returns:
      An SVG element.
    """
    axes = new_axes()
    draw_differences(axes, range(1, len(check.rows) + 1), check.rows)
    axes.set(xlabel="training step")
    axes.xaxis.set_major_locator(_whole_numbers())
    return as_svg(axes, label)


def _whole_numbers() -> "MaxNLocator":
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(integer=True, min_n_ticks=1)
