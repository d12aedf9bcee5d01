"""What happens to an image inside the compiled step: normalization and augmentation.

Axes: B batch, H height, W width, C channels.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, UInt8

_MAX_SHIFT = 4  # pixels; paper, section 4.1


@dataclasses.dataclass(frozen=True)
class Preprocess:
    """Turns stored images into the network's input.

    Attributes:
      mean: Mean of each channel of the training images, in 0 to 255.
      std: Standard deviation of each channel, likewise.
      augment: Whether training images are mirrored and shifted at random (paper, section 4.1; the
        "+" in CIFAR-10+).
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    augment: bool

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
        mean, std = (jnp.asarray(value, jnp.float32) for value in (self.mean, self.std))
        x = (image.astype(jnp.float32) - mean) / std
        if train and self.augment:
            x = jax.vmap(_mirror_and_shift)(x, jax.random.split(key, len(x)))
        return x


def _mirror_and_shift(x: Float[Array, "H W C"], key: jax.Array) -> Float[Array, "H W C"]:
    """Mirrors with probability 1/2 and shifts by -4 to 4 pixels in each direction."""
    mirror_key, shift_key = jax.random.split(key)
    x = jnp.where(jax.random.bernoulli(mirror_key), x[:, ::-1], x)
    # After normalization 0 is the mean, which is what the authors' code pads with.
    padded = jnp.pad(x, ((_MAX_SHIFT, _MAX_SHIFT), (_MAX_SHIFT, _MAX_SHIFT), (0, 0)))
    row, column = jax.random.randint(shift_key, (2,), 0, 2 * _MAX_SHIFT + 1)
    return lax.dynamic_slice(padded, (row, column, 0), x.shape)
