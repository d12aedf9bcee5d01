"""The picture of memory over depth."""

from typing import TYPE_CHECKING

from flax_densenet.study.remat_rows import MemoryRow
from flax_densenet.study.result import StudyResult
from flax_densenet.study.styles import LINES, MARKER_SIZE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MIB = 2**20
_ESTIMATES = {"naive": (0, (6, 2)), "remat": (0, (1, 1.5))}  # lines without markers


def draw_memory(result: StudyResult) -> "Figure":
    """Draws measured and estimated memory over depth.

    Args:
      result: A study whose rows are `MemoryRow`s.
    """
    from matplotlib.figure import Figure  # half a second to import

    rows: tuple[MemoryRow, ...] = result.rows
    depths = [row.depth for row in rows]
    figure = Figure(figsize=(6.6, 4.4), layout="constrained")
    axes = figure.subplots()
    axes.set_title(result.title, fontsize=10)
    for way, style in zip(rows[0].temporary, LINES, strict=False):
        sizes = [row.temporary[way] / _MIB for row in rows]
        axes.plot(depths, sizes, label=f"{way} (XLA)", markersize=MARKER_SIZE, **style)
    for way, line in _ESTIMATES.items():
        sizes = [row.estimated[way] / _MIB for row in rows]
        axes.plot(
            depths, sizes, color="0.35", linestyle=line, linewidth=1, label=f"{way} (estimate)"
        )
    axes.set(
        xlabel="depth L (convolutions and classifier)", ylabel="memory of a training step (MiB)"
    )
    axes.set_ylim(bottom=0)
    axes.set_xticks(depths)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    return figure
