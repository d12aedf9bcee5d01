"""The non-linearity after a batch normalization: the paper's ReLU, or an option.

To be read beside torch_reference/activation.py.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from flax_densenet.network.config import DenseNetConfig

LEAKY_SLOPE = 0.01
PRELU_SLOPE = 0.25  # initial


def activation(config: DenseNetConfig, number: str) -> Callable[[jax.Array], jax.Array]:
    """Returns the activation after `norm{number}`; only a PReLU is a submodule, `prelu{number}`.

    Args:
      config: The network.
      number: What its name ends in.
    """
    if config.activation == "prelu":
        return PReLU(config.dtype, name=f"prelu{number}")
    return _FUNCTIONS[config.activation]


class PReLU(nn.Module):
    """ReLU with a learned slope below 0 (https://arxiv.org/abs/1502.01852), one for all channels.

    It is `torch.nn.PReLU()`; Flax's own keeps its slope as a number without an axis.

    Attributes:
      dtype: Type of the result. The slope has at least float32.
    """

    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """Returns an array of the same shape."""
        dtype = jnp.promote_types(self.dtype, jnp.float32)
        slope = self.param("slope", nn.initializers.constant(PRELU_SLOPE), (1,), dtype)
        return _leaky(x, slope.astype(x.dtype))


def relu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Returns max(x, 0), and NaN for NaN, as PyTorch does.

    Where a sum over pixels follows, XLA on the CPU (jax 0.10.2) has a kernel whose maximum of NaN
    and 0 is 0: a network that has diverged would look healthy. As PyTorch's, the derivative at 0 is
    0.
    """
    return jnp.where(x <= 0, 0, x)


def _leaky(x: jax.Array, slope: jax.Array | float) -> jax.Array:
    # At 0 PyTorch's derivative is the slope, that of jax.nn.leaky_relu 1. A batch normalization
    # gives exactly 0 for a channel that is constant.
    return jnp.where(x > 0, x, slope * x)


_FUNCTIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "relu": relu,
    "leaky_relu": lambda x: _leaky(x, LEAKY_SLOPE),
    "sigmoid": nn.sigmoid,
    "tanh": jnp.tanh,
}
