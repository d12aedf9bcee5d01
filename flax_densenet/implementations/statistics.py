"""Batch normalization taken apart: statistics, normalization and their gradients.

The statistics of a feature map do not depend on the layer that reads it. They are computed once for
a whole block. In the gradient they are variables of their own, so that the parts that all readers
add to their gradient are applied once, too.

Maps may have their channels on any axis, and may be bfloat16. Sums, statistics and their gradients
are at least float32.

Axes: C channels; [...] all axes, `axis` is the channels'.
"""

from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from flax_densenet.network.activation import relu


class Statistics(NamedTuple):
    """Mean and biased variance of each channel, [C]; or their gradients."""

    mean: Float[Array, " C"]
    var: Float[Array, " C"]

    def prefix(self, channels: int) -> "Statistics":
        """Returns the statistics of the first channels."""
        return Statistics(self.mean[:channels], self.var[:channels])

    def after(self, channels: int) -> "Statistics":
        """Returns the statistics of all but the first channels."""
        return Statistics(self.mean[channels:], self.var[channels:])

    def join(self, other: "Statistics") -> "Statistics":
        """Returns the statistics of both, one after the other."""
        return Statistics(*(jnp.concatenate(pair) for pair in zip(self, other, strict=True)))

    def plus(self, other: "Statistics") -> "Statistics":
        """Returns the sum of two gradients."""
        return Statistics(self.mean + other.mean, self.var + other.var)


@flax.struct.dataclass
class BatchStatistics:
    """Statistics of a batch, for the running ones.

    Attributes:
      statistics: Mean and biased variance of each channel; those that a layer reads come first.
      num_values: Values of each channel in the batch.
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
    """Sums over all pixels that the gradients of a normalization need, each [C].

    Attributes:
      grad: Of the gradient for the normalization's result, before the ReLU.
      grad_x: Of the same times x - mean.
    """

    grad: Float[Array, " C"]
    grad_x: Float[Array, " C"]

    def plus(self, other: "Sums") -> "Sums":
        """Returns the sums over both."""
        return Sums(self.grad + other.grad, self.grad_x + other.grad_x)


def at_least_float32(dtype: DTypeLike) -> jnp.dtype:
    """Returns the type of sums over values of `dtype`."""
    return jnp.promote_types(dtype, jnp.float32)


def normalization(
    norm: dict[str, Float[Array, " C"]], statistics: Statistics, epsilon: float
) -> Normalization:
    """Returns a layer's normalization from its parameters {"scale", "bias"}."""
    deviation = jnp.sqrt(statistics.var + epsilon)
    scale = norm["scale"]
    return Normalization(statistics.mean, scale / deviation, norm["bias"], scale, deviation)


def batch_statistics(x: Float[Array, "..."], axis: int) -> Statistics:
    """Returns mean and biased variance of each channel."""
    count = x.size // x.shape[axis]
    x = x.astype(at_least_float32(x.dtype))
    mean = _channel_sums(x, axis) / count
    squares = jnp.square(x - _along(mean, x, axis))
    return Statistics(mean, _channel_sums(squares, axis) / count)


def norm_relu(norm: Normalization, x: Float[Array, "..."], axis: int) -> Float[Array, "..."]:
    """Normalizes and applies ReLU."""
    centered = x.astype(norm.mean.dtype) - _along(norm.mean, x, axis)
    y = centered * _along(norm.factor, x, axis) + _along(norm.bias, x, axis)
    return relu(y).astype(x.dtype)


def norm_relu_gradient(
    norm: Normalization,
    x: Float[Array, "..."],
    y: Float[Array, "..."],
    grad_y: Float[Array, "..."],
    axis: int,
) -> tuple[Float[Array, "..."], Sums]:
    """Returns the gradient for x, without the part through the statistics, and the sums.

    Args:
      norm: The normalization.
      x: Its input.
      y: Result of `norm_relu`.
      grad_y: Gradient for y.
      axis: Axis of the channels.
    """
    grad = jnp.where(y > 0, grad_y, 0).astype(norm.mean.dtype)
    centered = x.astype(norm.mean.dtype) - _along(norm.mean, x, axis)
    sums = Sums(_channel_sums(grad, axis), _channel_sums(grad * centered, axis))
    return grad * _along(norm.factor, x, axis), sums


def parameter_gradients(
    norm: Normalization, sums: Sums
) -> tuple[dict[str, Float[Array, " C"]], Statistics]:
    """Returns the gradients for {"scale", "bias"} and for the statistics."""
    gradients = {"scale": sums.grad_x / norm.deviation, "bias": sums.grad}
    grad_var = -0.5 * sums.grad_x * norm.scale / norm.deviation**3
    return gradients, Statistics(-norm.factor * sums.grad, grad_var)


def through_statistics(
    x: Float[Array, "..."], statistics: Statistics, gradients: Statistics, count: int, axis: int
) -> Float[Array, "..."]:
    """Returns the part of the gradient for x that goes through its mean and variance.

    Args:
      x: The maps, or some of them.
      statistics: Statistics of all maps.
      gradients: Gradients for the statistics.
      count: Values of each channel in all maps.
      axis: Axis of the channels.
    """
    grad_mean, grad_var = gradients.mean / count, 2 * gradients.var / count
    centered = x.astype(statistics.mean.dtype) - _along(statistics.mean, x, axis)
    return _along(grad_mean, x, axis) + centered * _along(grad_var, x, axis)


def average_prefixes(
    kept: float, running: list[jax.Array], weight: float, batch: list[jax.Array]
) -> list[jax.Array]:
    """Returns kept * x + weight * y for each running vector x and the first numbers of its y."""
    return [
        kept * x + weight * y[: x.size].astype(x.dtype) for x, y in zip(running, batch, strict=True)
    ]


def _channel_sums(x: Float[Array, "..."], axis: int) -> Float[Array, " C"]:
    return jnp.sum(x, axis=[other for other in range(x.ndim) if other != axis % x.ndim])


def _along(vector: Float[Array, " C"], x: Float[Array, "..."], axis: int) -> Float[Array, "..."]:
    """Returns a vector in the shape that broadcasts along the channels of x."""
    shape = [1] * x.ndim
    shape[axis] = vector.size
    return vector.reshape(shape)
