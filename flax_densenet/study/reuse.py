"""The study of feature reuse: what each layer reads of earlier ones.

A layer reads the maps of the block's input, followed by k maps of each layer before it. The paper's
text takes the "average absolute weight" between two layers; the caption of its Figure 5, the L1
norm divided by the number of input maps. Within one target they differ by a constant factor.

Axes: H, W kernel, I input channels of a group, O output channels; C channels of the joined maps.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from flax import traverse_util
from jaxtyping import Float

from flax_densenet.network.config import DenseNetConfig
from flax_densenet.pictures import literal
from flax_densenet.study.directory import StudyDirectory
from flax_densenet.study.result import Columns, StudyResult
from flax_densenet.weights.checkpoint import Checkpoint

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage


class Target(NamedTuple):
    """A layer that reads the maps of a block.

    Attributes:
      block: Number of the block, from 1.
      name: "layer 2", "transition" or "classifier".
      weights: Mean absolute weight of the maps of each source: the block's input, layer 1, ....
    """

    block: int
    name: str
    weights: tuple[float, ...]


def source_weights(config: DenseNetConfig, variables: Mapping[str, Any]) -> list[Target]:
    """Returns every layer that reads maps of a block, in forward order.

    Args:
      config: The network.
      variables: {"params", "batch_stats"}.
    """
    kernels = traverse_util.flatten_dict(dict(variables["params"]))
    targets = []
    channels = config.stem_channels
    for block, num_layers in enumerate(config.block_sizes, start=1):
        sizes = [channels, *[config.growth_rate] * num_layers]
        for layer in range(1, num_layers + 1):
            path = (f"denseblock{block}", f"denselayer{layer}", "conv1", "kernel")
            targets.append(_target(block, f"layer {layer}", kernels[path], sizes[:layer]))
        if block < len(config.block_sizes):
            kernel = kernels[f"transition{block}", "conv", "kernel"]
            targets.append(_target(block, "transition", kernel, sizes))
            channels = config.transition_channels(sum(sizes))
        else:
            targets.append(_target(block, "classifier", kernels["classifier", "kernel"], sizes))
    return targets


def _target(block: int, name: str, kernel: np.ndarray, sizes: list[int]) -> Target:
    by_channel = _mean_absolute(np.asarray(kernel, np.float64), sum(sizes))
    ends = np.cumsum(sizes)[:-1]
    parts = np.split(by_channel, ends)
    return Target(block, name, tuple(float(part.mean()) for part in parts))


def _mean_absolute(kernel: Float[np.ndarray, "*HW I O"], channels: int) -> Float[np.ndarray, " C"]:
    """Returns the mean absolute weight of each input channel.

    In a grouped convolution, a channel is read by the outputs of its group alone.
    """
    inputs, outputs = kernel.shape[-2:]
    groups = channels // inputs
    by_group = np.abs(kernel).reshape(-1, inputs, groups, outputs // groups).mean(axis=(0, 3))
    return by_group.T.ravel()


_MOST_TICKS = 12


def draw_reuse(result: StudyResult) -> "Figure":
    """Draws, for each block, sources over targets.

    Args:
      result: A study whose rows are `ReuseRow`s.
    """
    from matplotlib.figure import Figure  # half a second to import

    blocks = sorted({row.block for row in result.rows})
    figure = Figure(figsize=(1.2 + 3.4 * len(blocks), 3.9), layout="constrained")
    figure.suptitle(literal(result.title), fontsize=11)
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
    reader = "classifier" if is_last else "transition"
    axes.set_xticks([*layers, num_targets - 1], [*(str(n + 1) for n in layers), reader])
    axes.get_xticklabels()[-1].set(rotation=90, va="top")
    axes.set_yticks(list(range(0, num_targets, every)))
    axes.set_xlabel("target layer l")
    # The paper frames the column of what follows the block.
    axes.axvline(num_targets - 1.5, color="black", linewidth=1.5)
    return image


class ReuseRow(NamedTuple):
    """What one layer reads.

    Attributes:
      block: Number of the block, from 1.
      target: The layer that reads: "layer 2", "transition" or "classifier".
      weights: Mean absolute weight of each source: the block's input, layer 1, ....
    """

    block: int
    target: str
    weights: tuple[float, ...]

    @property
    def strongest(self) -> str:
        """The source with the largest weight."""
        return source_name(self.weights.index(max(self.weights)))

    @property
    def evenness(self) -> float:
        """The smallest weight as a share of the largest; 1 if all sources count alike."""
        return min(self.weights) / max(self.weights)


def source_name(number: int) -> str:
    """Returns what to call a source: the block's input is number 0."""
    return f"layer {number}" if number else "block input"


_COLUMNS: Columns = {
    "block": lambda row: str(row.block),
    "reads": lambda row: row.target,
    "sources": lambda row: str(len(row.weights)),
    "mean absolute weight, of the block's input": lambda row: f"{row.weights[0]:.4f}",
    "of the nearest source": lambda row: f"{row.weights[-1]:.4f}",
    "strongest source": lambda row: row.strongest,
    "smallest / largest": lambda row: f"{row.evenness:.2f}",
}


@dataclasses.dataclass(frozen=True)
class ReusePlan:
    """Which earlier layers the layers of a trained network read.

    Attributes:
      path: Whatever `flax-densenet convert` reads, or a work directory of `train`.
      checkpoint: What is in it.
    """

    path: Path
    checkpoint: Checkpoint

    @property
    def settings(self) -> dict[str, Any]:
        """The checkpoint."""
        return {"study": "feature_reuse", "source": {"checkpoint": str(self.path)}}

    def execute(self, directory: StudyDirectory) -> StudyResult:
        """Reads the weights and compares them.

        Args:
          directory: Where results are kept.
        """
        config, variables = self.checkpoint.config, self.checkpoint.variables
        rows = tuple(ReuseRow(*target) for target in source_weights(config, variables))
        for row in rows:
            identity = {"block": row.block, "target": row.target}
            if not directory.find(identity):
                directory.add(identity, [{"mean_absolute_weights": row.weights}])
        return StudyResult(
            name="feature_reuse",
            title=f"Feature reuse: {config.title}",
            method=_method(self.path.name),
            columns=_COLUMNS,
            rows=rows,
            recommendation=_conclusion(rows),
            draw=draw_reuse,
        )


def _method(name: str) -> str:
    return (
        f"Weights of `{name}`. For each layer of a dense block, and for the transition or "
        "classifier after it: the mean absolute weight of its (first) convolution, over the maps "
        "of each source. The picture shows each weight as a share of the target's largest, since "
        "layers of different kernels and widths have weights of different size; the paper's Figure "
        "5 has a scale from 0 to 1, too, and does not say of what."
    )


def _conclusion(rows: Sequence[ReuseRow]) -> str:
    read = [row for row in rows if len(row.weights) > 1]
    if not read:
        return "No layer has more than one source."
    nearest = sum(row.weights[-1] == max(row.weights) for row in read)
    last = rows[-1]
    even = sum(row.evenness for row in read) / len(read)
    return (
        f"Of the {len(read)} layers with several sources, {nearest} read the nearest one most. On "
        f"average the weakest source has {100 * even:.0f} % of the strongest one's weight. The "
        f"classifier reads {last.strongest} of the last block most. In an untrained network all "
        "sources have the same weight, but for chance."
    )
