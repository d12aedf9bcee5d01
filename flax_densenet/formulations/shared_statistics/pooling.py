"""Average pooling, summed up in float32 at least.

Axes: B batch, H height, W width, C channels.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from flax_densenet.formulations.normalization import at_least_float32


def pool(x: Float[Array, "B H W C"]) -> Float[Array, "B h w C"]:
    """Takes the mean of 2x2 pixels; an odd last row or column is left out."""
    batch_size, height, width, channels = x.shape
    rows, columns = height // 2, width // 2
    windows = x[:, : 2 * rows, : 2 * columns].reshape(batch_size, rows, 2, columns, 2, channels)
    return jnp.mean(windows.astype(at_least_float32(x.dtype)), axis=(2, 4)).astype(x.dtype)


def pool_all(x: Float[Array, "B H W C"]) -> Float[Array, "B C"]:
    """Takes the mean of all pixels."""
    return jnp.mean(x.astype(at_least_float32(x.dtype)), axis=(1, 2)).astype(x.dtype)
