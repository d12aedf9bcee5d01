"""The batch cut into chunks, and reading and writing one of them.

Axes: B batch, H height, W width, C channels; G chunks, P pixels of a chunk; [...] any.
"""

import math

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

# Some hundred channels of as many pixels are a few MiB, about what a core's cache holds. From 4096
# to 8192 it makes no difference, and below 2048 matrix products slow down (decision 0010).
_PIXELS = 8192


def images_per_chunk(batch_size: int, height: int, width: int, pixels: int | None = None) -> int:
    """Returns how many images form a chunk: the divisor of the batch nearest to `pixels`."""
    divisors = [n for n in range(1, batch_size + 1) if batch_size % n == 0]
    return min(divisors, key=lambda n: abs(math.log(n * height * width / (pixels or _PIXELS))))


def to_chunks(x: Float[Array, "B H W C"], pixels: int | None = None) -> Float[Array, "G C P"]:
    """Cuts the batch into chunks with their channels outermost."""
    batch_size, height, width, channels = x.shape
    chunk = images_per_chunk(batch_size, height, width, pixels)
    return x.reshape(-1, chunk * height * width, channels).transpose(0, 2, 1)


def resize_chunks(
    x: Float[Array, "G C P"], height: int, width: int, pixels: int | None = None
) -> Float[Array, "g C p"]:
    """Cuts the batch into chunks of the size that suits its smaller images."""
    num_chunks, channels, old_pixels = x.shape
    images = old_pixels // (height * width)
    new = images_per_chunk(num_chunks * images, height, width, pixels)
    if new == images:
        return x
    x = x.reshape(num_chunks, channels, images, -1).swapaxes(1, 2)  # [G, n, C, H W]
    x = x.reshape(-1, new, channels, height * width).swapaxes(1, 2)
    return x.reshape(-1, channels, new * height * width)


def read_chunk(
    x: Float[Array, "G C P"], chunk: Int[Array, ""], start: int, size: int
) -> Float[Array, "c P"]:
    """Returns `size` channels from `start` on of one chunk."""
    zero = jnp.zeros((), chunk.dtype)
    sizes = (1, size, x.shape[2])
    return lax.dynamic_slice(x, (chunk, zero + start, zero), sizes, allow_negative_indices=False)[0]


def write_chunk(
    x: Float[Array, "G C ..."], value: Float[Array, "c ..."], chunk: Int[Array, ""], start: int
) -> Float[Array, "G C ..."]:
    """Replaces channels from `start` on of one chunk; within a loop that happens in place."""
    zero = jnp.zeros((), chunk.dtype)
    indices = (chunk, zero + start, *[zero] * (x.ndim - 2))
    return lax.dynamic_update_slice(x, value[None], indices, allow_negative_indices=False)


def empty_after(cause: Float[Array, "..."], shape: tuple[int, ...]) -> Float[Array, "..."]:
    """Returns an array to write to, which does not exist before `cause` is computed.

    XLA makes a constant as early as it can, and would hold one for every layer all the time.
    """
    return jnp.broadcast_to(0 * cause.ravel()[0], shape)
