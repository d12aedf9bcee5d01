"""Batch normalization and ReLU of one chunk, forward and backward, and the statistics of all.

Axes: G chunks, C channels, P pixels of a chunk.
"""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from flax_densenet.implementations.statistics import Normalization, Statistics, Sums
from flax_densenet.network.activation import relu


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


def norm_relu(norm: Normalization, x: Float[Array, "C P"]) -> Float[Array, "C P"]:
    """Normalizes a chunk and applies ReLU."""
    return relu((x - column(norm.mean)) * column(norm.factor) + column(norm.bias))


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
