"""Batch normalization and ReLU of one chunk, forward and backward, and the statistics of all.

Axes: G chunks, C channels, P pixels of a chunk.

The statistics of a feature map do not depend on who reads it: they are computed once for the whole
block, and in the gradient they are variables of their own, so that what all readers add to their
gradient is applied once, too.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
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


def column(vector: Float[Array, " C"]) -> Float[Array, "C 1"]:
    """Returns a vector as a column, which broadcasts over pixels."""
    return vector[:, None]


def chunk_statistics(x: Float[Array, "C P"]) -> Statistics:
    """Returns the statistics of one chunk."""
    mean = jnp.mean(x, axis=1)
    return Statistics(mean, jnp.mean(jnp.square(x - column(mean)), axis=1))


def merge_statistics(chunks: Statistics) -> Statistics:
    """Returns the statistics of all chunks, from those of each: [G, C] -> [C].

    The variance is the mean variance plus the variance of the means: exact for chunks of one size.
    """
    mean = jnp.mean(chunks.mean, axis=0)
    spread = jnp.mean(jnp.square(chunks.mean - mean), axis=0)
    return Statistics(mean, jnp.mean(chunks.var, axis=0) + spread)


def normalization(
    norm: dict[str, Float[Array, " C"]], statistics: Statistics, epsilon: float
) -> Normalization:
    """Returns a layer's normalization from its parameters {"scale", "bias"}."""
    deviation = jnp.sqrt(statistics.var + epsilon)
    scale = norm["scale"]
    return Normalization(statistics.mean, scale / deviation, norm["bias"], scale, deviation)


def norm_relu(norm: Normalization, x: Float[Array, "C P"]) -> Float[Array, "C P"]:
    """Normalizes a chunk and applies ReLU."""
    return jax.nn.relu((x - column(norm.mean)) * column(norm.factor) + column(norm.bias))


def norm_relu_gradient(
    norm: Normalization, x: Float[Array, "C P"], y: Float[Array, "C P"], dy: Float[Array, "C P"]
) -> tuple[Float[Array, "C P"], Sums]:
    """Returns the gradient behind the ReLU and the chunk's part of the sums.

    Args:
      norm: The normalization.
      x: What it read.
      y: What `norm_relu` returned.
      dy: Gradient for y.
    """
    d = jnp.where(y > 0, dy, 0)
    return d, Sums(jnp.sum(d, axis=1), jnp.sum(d * (x - column(norm.mean)), axis=1))


def parameter_gradients(
    norm: Normalization, sums: Sums
) -> tuple[dict[str, Float[Array, " C"]], Statistics]:
    """Returns the gradients for {"scale", "bias"} and for the statistics."""
    gradients = {"scale": sums.dx / norm.deviation, "bias": sums.d}
    of_var = -0.5 * sums.dx * norm.scale / norm.deviation**3
    return gradients, Statistics(-norm.factor * sums.d, of_var)


def through_statistics(
    x: Float[Array, "C P"],
    statistics: Statistics,
    gradients: Statistics,
    count: int,
) -> Float[Array, "C P"]:
    """Returns what the gradients for mean and variance add to the gradient for x.

    Args:
      x: The chunk.
      statistics: Of all chunks.
      gradients: For these.
      count: Values of each channel in all chunks.
    """
    of_mean, of_var = gradients.mean / count, 2 * gradients.var / count
    return column(of_mean) + (x - column(statistics.mean)) * column(of_var)


def materialize(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Has `x` computed once, where XLA would compute it again in each of its readers."""
    return lax.optimization_barrier(x)
