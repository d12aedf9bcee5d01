"""Batch normalization with PyTorch's meaning.

Axes: B batch, H height, W width, C channels.

Flax's own `nn.BatchNorm` stores the biased variance and counts momentum the other way round
(docs/decisions/0003-batch-norm.md).
"""

import flax.linen as nn
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from flax_densenet.errors import InputError


class BatchNorm(nn.Module):
    """Normalizes each channel as `torch.nn.BatchNorm2d` does, statistics included.

    With n = B H W, in training::

        mean = sum(x) / n                    var = sum((x - mean)^2) / n
        y = scale (x - mean) / sqrt(var + epsilon) + bias
        running mean <- (1 - momentum) running mean + momentum mean
        running var  <- (1 - momentum) running var  + momentum var n / (n - 1)

    In evaluation the running values take the place of mean and var, and in training if `frozen`.

    Attributes:
      momentum: Weight of the new batch, in (0, 1].
      epsilon: Added to the variance.
      dtype: Type of the result. Statistics and parameters have at least float32.
      axis_name: Mapped axis (of `pmap`) over which the batch is spread, if the statistics are to be
        those of the whole batch. Under `jit` they are without it.
      frozen: Train as in evaluation: with the running values, which stay as they are.
    """

    momentum: float = 0.1
    epsilon: float = 1e-5
    dtype: DTypeLike = jnp.float32
    axis_name: str | None = None
    frozen: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"], *, train: bool) -> Float[Array, "B H W C"]:
        """Normalizes `x` and, in training, updates the collection "batch_stats".

        Args:
          x: [B, H, W, C].
          train: Whether to use the batch's statistics instead of the running ones.

        Returns:
          [B, H, W, C] of `dtype`.

        Raises:
          InputError: Training on a single value per channel, whose variance is not defined.
        """
        channels = x.shape[-1]
        dtype = jnp.promote_types(self.dtype, jnp.float32)
        scale = self.param("scale", nn.initializers.ones, (channels,), dtype)
        bias = self.param("bias", nn.initializers.zeros, (channels,), dtype)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, (channels,), dtype)
        running_var = self.variable("batch_stats", "var", jnp.ones, (channels,), dtype)

        x = x.astype(dtype)
        if train and not self.frozen:
            mean = self._mean(x)
            var = self._mean(jnp.square(x - mean))
            if not self.is_initializing():
                shards = lax.axis_size(self.axis_name) if self.axis_name else 1
                kept, weight, weight_of_var = running_weights(
                    shards * x.size // channels, self.momentum
                )
                running_mean.value = kept * running_mean.value + weight * mean
                running_var.value = kept * running_var.value + weight_of_var * var
        else:
            mean, var = running_mean.value, running_var.value
        y = (x - mean) * (scale / jnp.sqrt(var + self.epsilon)) + bias
        return y.astype(self.dtype)

    def _mean(self, x: Float[Array, "B H W C"]) -> Float[Array, " C"]:
        mean = jnp.mean(x, axis=(0, 1, 2))
        if self.axis_name is None or self.is_initializing():
            return mean
        return lax.pmean(mean, self.axis_name)


def running_weights(count: int, momentum: float) -> tuple[float, float, float]:
    """Returns the weights with which a batch enters the running statistics.

    Args:
      count: Values of each channel in the batch (n).
      momentum: Weight of the batch, in (0, 1].

    Returns:
      Weights of the running values, of the batch's mean and of its biased variance.

    Raises:
      InputError: The variance of a single value is not defined.
    """
    if count < 2:
        raise InputError(
            "batch normalization in training needs more than 1 value per channel, "
            "got a batch of 1 image with 1 pixel left; use a larger batch or larger images"
        )
    return 1 - momentum, momentum, momentum * (count / (count - 1))
