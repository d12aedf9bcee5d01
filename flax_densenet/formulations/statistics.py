"""Batch normalization taken apart: statistics, what a layer makes of them, and their gradients.

Axes: C channels.

The statistics of a feature map do not depend on who reads it: they are computed once for a whole
block, and in the gradient they are variables of their own, so that what all readers add to their
gradient is applied once, too.
"""

from typing import NamedTuple

import flax.struct
import jax.numpy as jnp
from jaxtyping import Array, Float


class Statistics(NamedTuple):
    """Mean and biased variance of each channel, [C]; or their gradients."""

    mean: Float[Array, " C"]
    var: Float[Array, " C"]

    def prefix(self, channels: int) -> "Statistics":
        """Returns those of the first channels."""
        return Statistics(self.mean[:channels], self.var[:channels])

    def after(self, channels: int) -> "Statistics":
        """Returns those of the other channels."""
        return Statistics(self.mean[channels:], self.var[channels:])

    def join(self, other: "Statistics") -> "Statistics":
        """Returns those of both, one after the other."""
        return Statistics(*(jnp.concatenate(pair) for pair in zip(self, other, strict=True)))


@flax.struct.dataclass
class BatchStatistics:
    """Statistics of a batch, for the running ones.

    Attributes:
      statistics: Mean and biased variance of each channel; those that a layer reads come first.
      num_values: Of each channel in the batch.
    """

    statistics: Statistics
    num_values: int = flax.struct.field(pytree_node=False)


class Normalization(NamedTuple):
    """y = (x - mean) factor + bias with factor = scale / sqrt(var + epsilon), each [C]."""

    mean: Float[Array, " C"]
    factor: Float[Array, " C"]
    bias: Float[Array, " C"]
    scale: Float[Array, " C"]
    deviation: Float[Array, " C"]


class Sums(NamedTuple):
    """What the gradients of a normalization need, added up over all pixels, each [C].

    Attributes:
      d: The gradient behind the ReLU.
      dx: The same times x - mean.
    """

    d: Float[Array, " C"]
    dx: Float[Array, " C"]

    def plus(self, other: "Sums") -> "Sums":
        """Returns the sums over both."""
        return Sums(self.d + other.d, self.dx + other.dx)


def normalization(
    norm: dict[str, Float[Array, " C"]], statistics: Statistics, epsilon: float
) -> Normalization:
    """Returns a layer's normalization from its parameters {"scale", "bias"}."""
    deviation = jnp.sqrt(statistics.var + epsilon)
    scale = norm["scale"]
    return Normalization(statistics.mean, scale / deviation, norm["bias"], scale, deviation)


def parameter_gradients(
    norm: Normalization, sums: Sums
) -> tuple[dict[str, Float[Array, " C"]], Statistics]:
    """Returns the gradients for {"scale", "bias"} and for the statistics."""
    gradients = {"scale": sums.dx / norm.deviation, "bias": sums.d}
    of_var = -0.5 * sums.dx * norm.scale / norm.deviation**3
    return gradients, Statistics(-norm.factor * sums.d, of_var)
