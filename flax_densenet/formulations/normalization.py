"""Batch normalization and ReLU of whole batches on given statistics, forward and backward.

Axes: B batch, H height, W width, C channels; [...] all but channels.

Maps may be bfloat16; sums, statistics and their gradients are at least float32.
"""

import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from flax_densenet.activation import relu
from flax_densenet.formulations.statistics import Normalization, Statistics, Sums


def at_least_float32(dtype: DTypeLike) -> jnp.dtype:
    """Returns the type of sums over values of `dtype`."""
    return jnp.promote_types(dtype, jnp.float32)


def batch_statistics(x: Float[Array, "B H W C"]) -> Statistics:
    """Returns mean and biased variance of each channel."""
    count = x.size // x.shape[-1]
    x = x.astype(at_least_float32(x.dtype))
    mean = channel_sums(x) / count
    return Statistics(mean, channel_sums(jnp.square(x - mean)) / count)


def channel_sums(x: Float[Array, "B H W C"]) -> Float[Array, " C"]:
    """Returns the sum of each channel."""
    return jnp.sum(x, axis=(0, 1, 2))


def norm_relu(norm: Normalization, x: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
    """Normalizes and applies ReLU."""
    centered = x.astype(norm.mean.dtype) - norm.mean
    return relu(centered * norm.factor + norm.bias).astype(x.dtype)


def norm_relu_gradient(
    norm: Normalization,
    x: Float[Array, "B H W C"],
    y: Float[Array, "B H W C"],
    dy: Float[Array, "B H W C"],
) -> tuple[Float[Array, "B H W C"], Sums]:
    """Returns the gradient for x, without the way through the statistics, and the sums.

    Args:
      norm: The normalization.
      x: What it read.
      y: What `norm_relu` returned.
      dy: Gradient for y.
    """
    d = jnp.where(y > 0, dy, 0).astype(norm.mean.dtype)
    of_scale = d * (x.astype(norm.mean.dtype) - norm.mean)
    return d * norm.factor, Sums(channel_sums(d), channel_sums(of_scale))


def through_statistics(
    x: Float[Array, "B H W C"], statistics: Statistics, gradients: Statistics
) -> Float[Array, "B H W C"]:
    """Returns what the gradients for mean and variance add to the gradient for x.

    Args:
      x: The maps.
      statistics: Of these.
      gradients: For the statistics.
    """
    count = x.size // x.shape[-1]
    centered = x.astype(statistics.mean.dtype) - statistics.mean
    return gradients.mean / count + centered * (2 * gradients.var / count)
