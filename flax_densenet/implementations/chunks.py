"""Chunks of a batch: cutting it, and reading and writing one of them.

Axes: B batch, H height, W width, C channels; G chunks, P pixels of a chunk (n images x H x W);
[...] any.
"""

import math
from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int


class Chunking(NamedTuple):
    """How the batch is cut.

    Attributes:
      pixels: About how many of them form a chunk.
      least: Number of chunks that there are at least, if the batch has so many images.
    """

    pixels: int
    least: int = 1

    def images(self, batch_size: int, height: int, width: int) -> int:
        """Returns how many images form a chunk: the divisor of the batch that fits best."""
        most = max(1, batch_size // self.least)
        divisors = [n for n in range(1, most + 1) if batch_size % n == 0]
        return min(divisors, key=lambda n: abs(math.log(n * height * width / self.pixels)))


def to_chunks(chunking: Chunking, x: Float[Array, "B C H W"]) -> Float[Array, "G C P"]:
    """Cuts the batch into chunks with their channels outermost."""
    batch_size, channels, height, width = x.shape
    images = chunking.images(batch_size, height, width)
    return _join_images(x.reshape(-1, images, channels, height * width))


def resize_chunks(
    chunking: Chunking, x: Float[Array, "G C P"], height: int, width: int
) -> Float[Array, "g C p"]:
    """Cuts the batch into chunks of the size that suits its smaller images."""
    num_chunks, channels, old_pixels = x.shape
    images = old_pixels // (height * width)
    new = chunking.images(num_chunks * images, height, width)
    if new == images:
        return x
    x = x.reshape(num_chunks, channels, images, -1).swapaxes(1, 2)  # [G, n, C, H W]
    return _join_images(x.reshape(-1, new, channels, height * width))


def from_chunks(x: Float[Array, "G C n"]) -> Float[Array, "B C"]:
    """Joins chunks whose images have one pixel left."""
    return x.swapaxes(1, 2).reshape(-1, x.shape[1])


def _join_images(x: Float[Array, "G n C P"]) -> Float[Array, "G C Q"]:
    num_chunks, _, channels, _ = x.shape
    return x.swapaxes(1, 2).reshape(num_chunks, channels, -1)


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
