"""Normalization, ReLU and average pooling after a block, for a transition or the head.

A transition convolves (1x1) before it pools. Both are linear, so pooling first gives the same with
a quarter of the work.

Axes: G chunks, C channels, D channels after a transition, P pixels of a chunk (n images x H x W),
p pixels after pooling.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from flax_densenet.implementations.blocked.stage import CHANNELS, kernel_matrix
from flax_densenet.implementations.chunks import empty_after, read_chunk, write_chunk
from flax_densenet.implementations.statistics import (
    Statistics,
    Sums,
    norm_relu,
    norm_relu_gradient,
    normalization,
    parameter_gradients,
)
from flax_densenet.implementations.walk import BlockSettings, Layer


class Window(NamedTuple):
    """Windows side by side; rows and columns that fill none are left out.

    Attributes:
      height: Of the images, in pixels.
      width: Of the images, in pixels.
      rows: Height of a window, in pixels.
      columns: Width of a window, in pixels.
    """

    height: int
    width: int
    rows: int
    columns: int

    @property
    def pooled_height(self) -> int:
        """Height after pooling, in pixels."""
        return self.height // self.rows

    @property
    def pooled_width(self) -> int:
        """Width after pooling, in pixels."""
        return self.width // self.columns

    def pool(self, x: Float[Array, "C P"]) -> Float[Array, "C p"]:
        """Returns the mean of each window."""
        used_rows, used_columns = self.pooled_height * self.rows, self.pooled_width * self.columns
        images = x.reshape(x.shape[0], -1, self.height, self.width)[:, :, :used_rows, :used_columns]
        windows = images.reshape(
            x.shape[0], -1, self.pooled_height, self.rows, self.pooled_width, self.columns
        )
        return jnp.mean(windows, axis=(3, 5)).reshape(x.shape[0], -1)

    def spread(self, y: Float[Array, "C p"]) -> Float[Array, "C P"]:
        """Gives each pixel its share of its window's gradient, the transpose of `pool`."""
        shape = (y.shape[0], -1, self.pooled_height, 1, self.pooled_width, 1)
        windows = y.reshape(shape) / (self.rows * self.columns)
        windows = jnp.broadcast_to(
            windows, (*windows.shape[:3], self.rows, self.pooled_width, self.columns)
        )
        images = windows.reshape(
            y.shape[0], -1, self.pooled_height * self.rows, self.pooled_width * self.columns
        )
        left_out = self.height - images.shape[2], self.width - images.shape[3]
        padding = [(0, 0), (0, 0), (0, left_out[0]), (0, left_out[1])]
        return jnp.pad(images, padding).reshape(y.shape[0], -1)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def norm_relu_pool(
    window: Window,
    epsilon: float,
    norm: dict[str, Float[Array, " C"]],
    x: Float[Array, "G C P"],
    statistics: Statistics,
) -> Float[Array, "G C p"]:
    """Normalizes with the given statistics, applies ReLU and pools.

    Args:
      window: What is averaged.
      epsilon: Added to the variances.
      norm: {"scale", "bias"}, each [C].
      x: [G, C, P].
      statistics: Each [C].
    """
    layer = normalization(norm, statistics, epsilon)
    return lax.map(lambda chunk: window.pool(norm_relu(layer, chunk, CHANNELS)), x)


def _forward(
    window: Window, epsilon: float, norm: dict, x: jax.Array, statistics: Statistics
) -> tuple[jax.Array, tuple]:
    return norm_relu_pool(window, epsilon, norm, x, statistics), (norm, x, statistics)


def _backward(window: Window, epsilon: float, kept: tuple, gradient: jax.Array) -> tuple:
    norm, x, statistics = kept
    layer = normalization(norm, statistics, epsilon)
    channels = x.shape[1]

    def body(chunk: jax.Array, carry: tuple) -> tuple:
        grad_x, sums = carry
        part = read_chunk(x, chunk, 0, channels)
        grad_pooled = read_chunk(gradient, chunk, 0, channels)
        y, grad_y = norm_relu(layer, part, CHANNELS), window.spread(grad_pooled)
        grad_part, more = norm_relu_gradient(layer, part, y, grad_y, CHANNELS)
        return write_chunk(grad_x, grad_part, chunk, 0), sums.plus(more)

    zeros = jnp.zeros((channels,), x.dtype)
    start = empty_after(gradient, x.shape), Sums(zeros, zeros)
    grad_x, sums = lax.fori_loop(0, x.shape[0], body, start)
    grad_norm, grad_statistics = parameter_gradients(layer, sums)
    return grad_norm, grad_x, grad_statistics


norm_relu_pool.defvjp(_forward, _backward)


def transition_window(settings: BlockSettings) -> Window:
    """Returns what a transition averages."""
    return Window(settings.height, settings.width, 2, 2)


def head_window(settings: BlockSettings) -> Window:
    """Returns the window of the head: whole images."""
    return Window(settings.height, settings.width, settings.height, settings.width)


def transition_convolution(params: Layer, x: Float[Array, "G C P"]) -> jax.Array:
    """Applies a transition's 1x1 convolution: [G, C, P] -> [G, D, P]."""
    return jnp.einsum("dc,gcp->gdp", kernel_matrix(params["conv"]["kernel"]), x)
