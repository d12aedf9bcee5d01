"""Convolutions on a GPU, at stride 1 with zeros around the image.

Axes: B batch, H height, W width, C channels, K channels of the result; h, w size of the kernel.
"""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from flax_densenet.implementations.statistics import at_least_float32

# cuDNN's kernels for 16-bit numbers take channels eight by eight; XLA pads what does not fit.
_CHANNELS_TOGETHER = 8


def convolve(
    x: Float[Array, "B H W C"], kernel: Float[Array, "h w C K"]
) -> Float[Array, "B H W K"]:
    """Convolves in the way that suits type and channels.

    Args:
      x: [B, H, W, C].
      kernel: [h, w, C, K] of any type; the result has that of `x`.
    """
    kernel = kernel.astype(x.dtype)
    if kernel.shape[:2] == (1, 1):  # a product, for which XLA has more and faster ways
        return jnp.einsum("bhwc,ck->bhwk", x, kernel[0, 0])
    if x.dtype == jnp.bfloat16 and any(n % _CHANNELS_TOGETHER for n in kernel.shape[2:]):
        return convolve_by_taps(x, kernel)
    return lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def convolve_by_taps(
    x: Float[Array, "B H W C"], kernel: Float[Array, "h w C K"]
) -> Float[Array, "B H W K"]:
    """Convolves by one product for all taps, whose results are shifted and added up.

    No channels are padded then, forward or backward, and fewer kernels run
    (docs/performance.md).

    Args:
      x: [B, H, W, C].
      kernel: [h, w, C, K] of the same type, h and w odd.
    """
    rows, columns, _, _ = kernel.shape
    height, width = x.shape[1:3]
    products = jnp.einsum("bhwc,yxck->bhwyxk", x, kernel)
    margins = (rows // 2,) * 2, (columns // 2,) * 2
    products = jnp.pad(products, ((0, 0), *margins, (0, 0), (0, 0), (0, 0)))
    taps = [
        products[:, i : i + height, j : j + width, i, j].astype(at_least_float32(products.dtype))
        for i in range(rows)
        for j in range(columns)
    ]
    return sum(taps[1:], taps[0]).astype(products.dtype)
