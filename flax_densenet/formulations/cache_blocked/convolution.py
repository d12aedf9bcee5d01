"""A convolution of one chunk as one matrix product and shifted additions.

Axes: P pixels of a chunk (n images x H x W), C input channels, K output channels, T = size^2 K:
tap and output channel together.

With few output channels, as in a dense layer, a direct convolution uses a small part of the
processor; [T, C] @ [C, P] uses nearly all of it. Its gradients are two products with the shifted
copies of the output's gradient.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float


class Convolution(NamedTuple):
    """A convolution with stride 1 and zeros around the image.

    Attributes:
      size: Height and width of the kernel, odd.
      height: Of the images, in pixels.
      width: Of the images, in pixels.
    """

    size: int
    height: int
    width: int

    @property
    def _reach(self) -> range:
        return range(-(self.size // 2), self.size // 2 + 1)

    def add_taps(self, products: Float[Array, "T P"]) -> Float[Array, "K P"]:
        """Adds the products of all taps, each read beside its pixel."""
        if self.size == 1:
            return products
        taps = products.reshape(self.size**2, -1, *self._images(products))
        offsets = [(row, column) for column in self._reach for row in self._reach]
        total = sum(_shift(taps[i], *offset) for i, offset in enumerate(offsets))
        return jnp.reshape(total, (taps.shape[1], -1))

    def spread_taps(self, y: Float[Array, "K P"]) -> Float[Array, "T P"]:
        """Returns one shifted copy for each tap, the transpose of `add_taps`."""
        if self.size == 1:
            return y
        x = y.reshape(-1, *self._images(y))
        # One direction after the other: fewer loops for XLA to compile than size^2.
        x = jnp.concatenate([_shift(x, -row, 0) for row in self._reach])
        x = jnp.concatenate([_shift(x, 0, -column) for column in self._reach])
        return x.reshape(self.size**2 * y.shape[0], -1)

    def _images(self, x: Float[Array, "C P"]) -> tuple[int, int, int]:
        return x.shape[1] // (self.height * self.width), self.height, self.width


def kernel_matrix(kernel: Float[Array, "H W C K"]) -> Float[Array, "T C"]:
    """Returns a kernel as a matrix, whose rows go through columns, rows and output channels."""
    return kernel.transpose(1, 0, 3, 2).reshape(-1, kernel.shape[2])


def matrix_kernel(matrix: Float[Array, "T C"], size: int) -> Float[Array, "H W C K"]:
    """Returns the kernel of a matrix, the inverse of `kernel_matrix`."""
    return matrix.reshape(size, size, -1, matrix.shape[1]).transpose(1, 0, 3, 2)


def _shift(x: Float[Array, "K n H W"], row: int, column: int) -> Float[Array, "K n H W"]:
    """Returns for each pixel the one `row` below and `column` to the right of it."""
    # Negative padding cuts off: one loop, where jnp.pad and a slice are two.
    padding = [(0, 0, 0), (0, 0, 0), (-row, row, 0), (-column, column, 0)]
    return lax.pad(x, jnp.zeros((), x.dtype), padding)
