"""Batch normalization taken apart: statistics, normalization, and their gradients.

Axes: C channels.

Axes: B batch, H height, W width, C channels; [...] all but channels.

The statistics of a feature map do not depend on who reads it: they are computed once for a whole
block, and in the gradient they are variables of their own, so that what all readers add to their
gradient is applied once, too.

Maps may be bfloat16; sums, statistics and their gradients are at least float32.
"""

from typing import NamedTuple

import flax.struct
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from flax_densenet.network.activation import relu


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
