"""The comparison as a picture: a bar for each median, a line for each range."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.contestants import OURS
from benchmarks.measurement import Measurement
from benchmarks.networks import Case
from benchmarks.summary import shown_quantities
from flax_densenet.sample import Sample

_BAR_HEIGHT = 0.34  # inches, with the space around
_WIDTH = 11  # inches


def plot_comparison(
    results: Sequence[tuple[Case, Sequence[Measurement]]], device: str, file: Path
) -> None:
    """Draws all networks below each other, with a column for each quantity.

    Args:
      results: What was measured of each network.
      device: What it was measured on, for the heading.
      file: PNG or SVG file to write.
    """
    from matplotlib.figure import Figure  # half a second to import

    everyone = [one for _, measurements in results for one in measurements]
    quantities = list(shown_quantities(everyone).values())
    heights = [_BAR_HEIGHT * len(measurements) + 0.9 for _, measurements in results]
    figure = Figure(figsize=(_WIDTH, sum(heights) + 0.5), layout="constrained")
    figure.suptitle(f"Less is better. Bar: median, line: smallest to largest. {device}")
    panels = figure.subplots(
        len(results), len(quantities), squeeze=False, sharey="row", height_ratios=heights
    )
    for row, (case, measurements) in zip(panels, results, strict=True):
        names = [one.contestant for one in measurements]
        for axes, quantity in zip(row, quantities, strict=True):
            samples = [Sample(quantity.of(one)) for one in measurements]
            largest = max((max(values) for values in samples if values), default=1)
            for position, (one, values) in enumerate(zip(measurements, samples, strict=True)):
                if not values:
                    axes.text(0, position, " failed", verticalalignment="center", color="0.3")
                    continue
                axes.barh(position, values.median, 0.7, **_style(one.contestant))
                ends = [min(values), max(values)]
                axes.plot(ends, [position] * 2, "|-", color="black", linewidth=1)
                axes.text(
                    max(values),
                    position,
                    f"  {values.median:{'.0f' if values.median >= 100 else '.3g'}}",
                    verticalalignment="center",
                    fontsize="small",
                )
            axes.set(xlabel=f"{quantity.name} ({quantity.unit})", xlim=(0, 1.3 * largest))
            axes.set_yticks(range(len(names)), names)
            axes.spines[["top", "right"]].set_visible(False)
        row[0].invert_yaxis()
        row[1].set_title(case.title, fontsize="medium")
    figure.savefig(file, dpi=150)


def _style(contestant: str) -> dict[str, str]:
    """Tells ours, other Flax and PyTorch apart, in gray too."""
    if contestant in OURS.values():
        return {"facecolor": "#5b8db8", "edgecolor": "black"}
    if contestant.startswith("flax"):
        return {"facecolor": "#c9dff0", "edgecolor": "black", "hatch": "///"}
    return {"facecolor": "#f4e3d3", "edgecolor": "black"}
