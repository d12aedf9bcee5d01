"""The plots of a comparison: differences over the depth of the network, and training curves."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from flax_densenet.parity.ladder import Check
from flax_densenet.parity.page.difference_axes import COLORS, draw_differences
from flax_densenet.parity.page.stages import Stage
from flax_densenet.parity.page.svg import as_svg, new_axes
from flax_densenet.parity.report import by_layer, first_to_differ

if TYPE_CHECKING:
    from matplotlib.ticker import MaxNLocator

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

    return MaxNLocator(integer=True)
