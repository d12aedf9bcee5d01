"""What is behind a block, on given statistics.

Axes: B batch, H height, W width, C channels, D channels behind the transition.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from flax_densenet.implementations.gpu.convolution import convolve
from flax_densenet.implementations.statistics import Normalization, at_least_float32, norm_relu


def transition(
    norm: Normalization, kernel: Float[Array, "1 1 C D"], x: Float[Array, "B H W C"]
) -> Float[Array, "B h w D"]:
    """Normalizes, applies ReLU, convolves and takes the mean of 2x2 pixels.

    An odd last row or column is left out.
    """
    x = norm_relu(norm, x)
    batch_size, height, width, channels = x.shape
    rows, columns = height // 2, width // 2
    windows = x[:, : 2 * rows, : 2 * columns].reshape(batch_size, rows, 2, columns, 2, channels)
    pooled = jnp.mean(windows.astype(at_least_float32(x.dtype)), axis=(2, 4)).astype(x.dtype)
    # Both are linear, so that pooling first is the same with a quarter of the work.
    return convolve(pooled, kernel)


def head(norm: Normalization, x: Float[Array, "B H W C"]) -> Float[Array, "B C"]:
    """Normalizes, applies ReLU and takes the mean of all pixels."""
    x = norm_relu(norm, x)
    return jnp.mean(x.astype(at_least_float32(x.dtype)), axis=(1, 2)).astype(x.dtype)
