"""How strongly each layer of a dense block reads each layer before it (paper, section 5, Figure 5).

Axes: H, W kernel, I input channels of a group, O output channels; C channels of the joined maps.

The maps that a layer reads are those of the block's input, followed by k maps of each layer before
it. The paper takes the "average absolute weight" between two layers; the caption of its figure, the
L1 norm divided by the number of input maps. Within one target they differ by a constant factor.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from flax import traverse_util
from jaxtyping import Float

from flax_densenet.config import DenseNetConfig


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
