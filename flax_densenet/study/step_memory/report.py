"""Rows, words and picture of the study of memory."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from flax_densenet.machine import hardware
from flax_densenet.network.config import DenseNetConfig
from flax_densenet.pictures import literal
from flax_densenet.study.result import Columns, StudyResult
from flax_densenet.study.styles import LINES, MARKER_SIZE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MIB = 2**20
_ESTIMATES = {"naive": (0, (6, 2)), "remat": (0, (1, 1.5))}  # lines without markers


class MemoryRow(NamedTuple):
    """Memory at one depth, in bytes.

    Attributes:
      depth: Depth of the network.
      parameters: Trainable parameters.
      temporary: Temporary memory of the compiled step, by name of the way.
      estimated: Estimate of the same (activations and working set), naive and with remat.
    """

    depth: int
    parameters: int
    temporary: Mapping[str, int]
    estimated: Mapping[str, int]


def memory_columns(ways: Sequence[str]) -> Columns:
    """Returns the columns of the table.

    Args:
      ways: Names of the ways.
    """

    def of_xla(way: str) -> Columns:
        return {f"{way}, XLA (MiB)": lambda row: f"{row.temporary[way] / _MIB:.0f}"}

    def estimated(way: str) -> Columns:
        return {f"{way}, estimate (MiB)": lambda row: f"{row.estimated[way] / _MIB:.0f}"}

    columns: dict[str, object] = {
        "depth": lambda row: str(row.depth),
        "parameters": lambda row: f"{row.parameters:,}",
    }
    for way in ("naive", "remat"):
        columns |= estimated(way)
    for way in ways:
        columns |= of_xla(way)
    return columns  # type: ignore[return-value]


def memory_method(
    network: DenseNetConfig, batch_size: int, image_size: int, ways: Sequence[str], version: str
) -> str:
    """Returns what was done.

    Args:
      network: The network, whatever its depth.
      batch_size: Images in a batch.
      image_size: Height and width in pixels.
      ways: Names of the ways.
      version: Software that compiled.
    """
    others = (
        f" {ways[2].capitalize()} is what training chooses here (docs/performance.md)."
        if len(ways) > 2
        else ""
    )
    return (
        f"One step of training with {batch_size} images of {image_size}x{image_size} pixels, "
        f"growth rate {network.growth_rate}, bottleneck {network.bottleneck}, compression "
        f"{network.compression:g}, {network.dtype}; compiled, not run. XLA: temporary memory, by "
        "`memory_analysis`. Estimate: activations and working set, as `flax-densenet summary` "
        "counts them. Naive keeps all activations; remat computes dense layers a second time in "
        "the backward pass (https://arxiv.org/abs/1707.06990)."
        f"{others} {hardware()}; {version}."
    )


def memory_conclusion(rows: Sequence[MemoryRow]) -> str:
    """Returns what the rows say."""
    first, last = rows[0], rows[-1]
    sentences = [
        f"At depth {last.depth}, {way} takes "
        f"{100 * last.temporary[way] / last.temporary['naive']:.0f} % of the naive memory."
        for way in last.temporary
        if way != "naive"
    ]
    if len(rows) > 1:
        growth = ", ".join(
            f"{way} {last.temporary[way] / first.temporary[way]:.1f}" for way in last.temporary
        )
        sentences.append(
            f"From depth {first.depth} to {last.depth}, a factor of "
            f"{last.depth / first.depth:.1f}, memory grows by these factors: {growth}."
        )
    return " ".join(sentences)


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
    axes.set_title(literal(result.title), fontsize=10)
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
