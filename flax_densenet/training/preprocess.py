"""What happens to an image inside the compiled step: normalization and augmentation.

Axes: B batch, H height, W width, C channels.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, UInt8

from flax_densenet.training.color import change_colors
from flax_densenet.training.run_config import Augment

_MAX_SHIFT = 4  # pixels; paper, section 4.1


@dataclasses.dataclass(frozen=True)
class Preprocess:
    """Turns stored images into the network's input.

    Attributes:
      mean: Mean of each channel of the training images, in 0 to 255.
      std: Standard deviation of each channel, likewise.
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
        mean, std = (jnp.asarray(value, jnp.float32) for value in (self.mean, self.std))
        return (image.astype(jnp.float32) - mean) / std


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
