"""Squeeze-and-excitation, an option.

To be read beside torch_reference/attention.py. Source: Hu et al., "Squeeze-and-Excitation Networks"
(CVPR 2018), https://arxiv.org/abs/1709.01507, section 3.

Axes: B batch, H height, W width, C channels.
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from flax_densenet.network.config import DenseNetConfig
from flax_densenet.network.initialization import linear_kernel


class SqueezeExcitation(nn.Module):
    """Multiplies each feature map by a number in (0, 1), computed from the means of all.

    With s the mean of each map, the numbers are sigmoid(W2 relu(W1 s + b1) + b2).
    """

    config: DenseNetConfig

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
        """Returns the weighed maps: [B, H, W, C] -> [B, H, W, C]."""
        weights = jnp.mean(x, axis=(1, 2))  # [B, C]
        weights = nn.relu(self._linear(self.config.attention_channels, "fc1")(weights))
        weights = nn.sigmoid(self._linear(x.shape[-1], "fc2")(weights))
        return x * weights[:, None, None, :]

    def _linear(self, features: int, name: str) -> nn.Dense:
        dtype = self.config.dtype
        return nn.Dense(
            features,
            kernel_init=linear_kernel,
            dtype=dtype,
            param_dtype=jnp.promote_types(dtype, jnp.float32),
            name=name,
        )
