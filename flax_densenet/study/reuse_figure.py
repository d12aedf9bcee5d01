"""The paper's Figure 5: a heat map for each dense block."""

from typing import TYPE_CHECKING

import numpy as np

from flax_densenet.study.result import StudyResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

_MOST_TICKS = 12


def draw_reuse(result: StudyResult) -> "Figure":
    """Draws, for each block, sources over targets.

    Args:
      result: A study whose rows are `ReuseRow`s.
    """
    from matplotlib.figure import Figure  # half a second to import

    blocks = sorted({row.block for row in result.rows})
    figure = Figure(figsize=(1.2 + 3.4 * len(blocks), 3.9), layout="constrained")
    figure.suptitle(result.title, fontsize=11)
    panels = np.atleast_1d(figure.subplots(1, len(blocks)))
    for axes, block in zip(panels, blocks, strict=True):
        weights = [row.weights for row in result.rows if row.block == block]
        image = _draw_block(axes, weights, is_last=block == blocks[-1])
        axes.set_title(f"dense block {block}", fontsize=10)
    panels[0].set_ylabel("source layer s (0: input of the block)")
    bar = figure.colorbar(image, ax=panels, shrink=0.85, pad=0.01)
    bar.set_label("mean absolute weight,\nshare of the target's largest")
    return figure


def _draw_block(axes: "Axes", weights: list[tuple[float, ...]], *, is_last: bool) -> "AxesImage":
    """Draws one block; what a layer cannot read stays white."""
    num_targets = len(weights)
    shares = np.full((num_targets, num_targets), np.nan)
    for target, column in enumerate(weights):
        shares[: len(column), target] = np.asarray(column) / max(column)
    # From light to dark, so that the order is seen in gray, too.
    image = axes.imshow(shares, cmap="viridis_r", vmin=0, vmax=1, interpolation="nearest")
    every = max(1, -(-num_targets // _MOST_TICKS))
    layers = list(range(0, num_targets - 1, every))
    behind = "classifier" if is_last else "transition"
    axes.set_xticks([*layers, num_targets - 1], [*(str(n + 1) for n in layers), behind])
    axes.get_xticklabels()[-1].set(rotation=90, va="top")
    axes.set_yticks(list(range(0, num_targets, every)))
    axes.set_xlabel("target layer l")
    # The paper frames the column of what follows the block.
    axes.axvline(num_targets - 1.5, color="black", linewidth=1.5)
    return image
