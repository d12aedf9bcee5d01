"""Augmentation and normalization of a batch of images.

Colors change as in https://github.com/facebook/fb.resnet.torch (datasets/transforms.lua), which the
paper follows: brightness, contrast and saturation by up to 40 %, then a random step along the
principal components of ImageNet's colors. There the first three come in random order, which changes
nothing: they commute.

Axes: B batch, H height, W width, C channels (red, green and blue where colors change).
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, UInt8

from flax_densenet.data import ChannelStatistics
from flax_densenet.training.config import Augment

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


_MAX_SHIFT = 4  # pixels; paper, section 4.1


@dataclasses.dataclass(frozen=True)
class Preprocess:
    """Turns stored images into the network's input.

    Attributes:
      mean: Mean of each channel of the training images, in 0 to 255.
      std: Standard deviation of each channel, in 0 to 255.
      augment: What happens to training images: "shift" mirrors and shifts them at random (paper,
        section 4.1; the "+" in CIFAR-10+), "crop" mirrors them (a random part was cut out when they
        were read), "crop_color" changes their colors, too (ImageNet), "none" nothing.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    augment: Augment

    def __call__(
        self, image: UInt8[Array, "B H W C"], key: jax.Array, *, train: bool
    ) -> Float[Array, "B H W C"]:
        """Normalizes and, in training, augments.

        Args:
          image: [B, H, W, C], 0 to 255.
          key: Random key of this batch; unused without augmentation.
          train: Whether the images are trained on.

        Returns:
          [B, H, W, C] float32, each channel of the training set with mean 0 and deviation 1.
        """
        mirror_key, shift_key, color_key = jax.random.split(key, 3)
        x = image.astype(jnp.float32)
        if train and self.augment == "crop_color":
            x = _each(change_colors, x, color_key)
        x = self.normalize(x)
        if train and self.augment != "none":
            x = _each(_mirror, x, mirror_key)
        if train and self.augment == "shift":
            x = _each(_shift, x, shift_key)
        return x

    def normalize(self, image: UInt8[Array, "B H W C"]) -> Float[Array, "B H W C"]:
        """Returns (image - mean) / std in float32, all that happens to images in evaluation."""
        return ChannelStatistics(self.mean, self.std).normalize(image)


def _each(
    change: Callable[[jax.Array, jax.Array], jax.Array], x: Float[Array, "B H W C"], key: jax.Array
) -> Float[Array, "B H W C"]:
    """Changes each image with a key of its own."""
    return jax.vmap(change)(x, jax.random.split(key, len(x)))


def _mirror(x: Float[Array, "H W C"], key: jax.Array) -> Float[Array, "H W C"]:
    """Mirrors with probability 1/2."""
    return jnp.where(jax.random.bernoulli(key), x[:, ::-1], x)


def _shift(x: Float[Array, "H W C"], key: jax.Array) -> Float[Array, "H W C"]:
    """Shifts by -4 to 4 pixels in each direction."""
    # After normalization 0 is the mean, which is what the authors' code pads with.
    padded = jnp.pad(x, ((_MAX_SHIFT, _MAX_SHIFT), (_MAX_SHIFT, _MAX_SHIFT), (0, 0)))
    row, column = jax.random.randint(key, (2,), 0, 2 * _MAX_SHIFT + 1)
    return lax.dynamic_slice(padded, (row, column, 0), x.shape)
