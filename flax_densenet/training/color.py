"""The change of colors with which the authors augment ImageNet.

It is that of https://github.com/facebook/fb.resnet.torch (datasets/transforms.lua), which the paper
follows: brightness, contrast and saturation by up to 40 %, then a random step along the principal
components of ImageNet's colors. There the first three come in random order, which changes nothing:
they commute. Axes: H height, W width, C red, green and blue.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

_MAX_CHANGE = 0.4
_LIGHTING_DEVIATION = 0.1
_GRAY = (0.299, 0.587, 0.114)
# Of the covariance of ImageNet's pixels in 0 to 1; eigenvectors are the columns.
_EIGENVALUES = (0.2175, 0.0188, 0.0045)
_EIGENVECTORS = (
    (-0.5675, 0.7192, 0.4009),
    (-0.5808, -0.0045, -0.8140),
    (-0.5836, -0.6948, 0.4203),
)

Image = Float[Array, "H W C"]


def change_colors(x: Image, key: jax.Array) -> Image:
    """Changes brightness, contrast, saturation and lighting of one image.

    Args:
      x: [H, W, 3] in 0 to 255.
      key: Decides the change.

    Returns:
      [H, W, 3], which may be outside 0 to 255.
    """
    factor_key, lighting_key = jax.random.split(key)
    factors = jax.random.uniform(factor_key, (3,), x.dtype, 1 - _MAX_CHANGE, 1 + _MAX_CHANGE)
    x = scale_saturation(scale_contrast(scale_brightness(x, factors[0]), factors[1]), factors[2])
    steps = _LIGHTING_DEVIATION * jax.random.normal(lighting_key, (3,), x.dtype)
    return x + 255 * jnp.asarray(_EIGENVECTORS, x.dtype) @ (steps * jnp.asarray(_EIGENVALUES))


def scale_brightness(x: Image, factor: jax.Array) -> Image:
    """Returns the image between black (0), itself (1) and beyond."""
    return factor * x


def scale_contrast(x: Image, factor: jax.Array) -> Image:
    """Returns the image between its mean gray (0), itself (1) and beyond."""
    return factor * x + (1 - factor) * jnp.mean(_gray(x))


def scale_saturation(x: Image, factor: jax.Array) -> Image:
    """Returns the image between its grayscale (0), itself (1) and beyond."""
    return factor * x + (1 - factor) * _gray(x)


def _gray(x: Image) -> Float[Array, "H W 1"]:
    return (x @ jnp.asarray(_GRAY, x.dtype))[..., None]
