"""What a dense block is given and returns where it is one differentiable function.

Axes: D channels after the block; the others are the formulation's, G chunks and P pixels of each,
or B batch, H height and W width.
"""

from typing import Any, NamedTuple

from jaxtyping import Array, Float

from flax_densenet.formulations.statistics import Statistics

Layer = dict[str, Any]


class BlockOptions(NamedTuple):
    """What is fixed when a block is compiled.

    Attributes:
      height: Of its feature maps, in pixels.
      width: Of its feature maps, in pixels.
      epsilon: Added to the variances.
      remat: Compute the bottlenecks again in the backward pass instead of keeping them.
    """

    height: int
    width: int
    epsilon: float
    remat: bool


class BlockOutput(NamedTuple):
    """What a block returns.

    Attributes:
      features: Input and all new maps, [G, D, P] or [B, H, W, D].
      statistics: Of these, each [D].
      inner: Statistics of each bottleneck; none in a block of plain layers.
    """

    features: Float[Array, "G D P"] | Float[Array, "B H W D"]
    statistics: Statistics
    inner: list[Statistics]
