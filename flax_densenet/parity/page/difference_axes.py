"""Relative differences on a logarithmic axis that also has a place for 0 and for NaN."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from flax_densenet.parity.differences import Difference

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# From Okabe and Ito's palette, which color-blind people can tell apart; in gray the styles do.
COLORS = {"difference": "#0072b2", "differs": "#d55e00", "allowed": "black", "rounding": "0.4"}
_MAX_TICKS = 6
_FEW = 100  # points that can be drawn large


def draw_differences(axes: "Axes", positions: Sequence[int], rows: Sequence[Difference]) -> None:
    """Draws differences, what rounding does to PyTorch alone, and what is allowed.

    Args:
      axes: Empty axes.
      positions: Where each difference stands on the horizontal axis.
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
        ("differs", "X", lambda row: not row.agrees),
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
    """Decimal logarithms, with a place below all of them for 0 and one above for NaN."""

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
