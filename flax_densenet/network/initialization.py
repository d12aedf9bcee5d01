"""Initial weights from the authors' distributions.

Source: models/densenet.lua of https://github.com/liuzhuang13/DenseNet (convolutions, and the zero
bias) and Torch7's `nn.Linear` (classifier).

Axes: H kernel height, W kernel width, I input channels, O output channels.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from flax_densenet.errors import InputError
from flax_densenet.network.activation import PRELU_SLOPE
from flax_densenet.network.config import DenseNetConfig
from flax_densenet.network.layers import flax_arrays


def conv_kernel(
    key: jax.Array, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32
) -> Float[Array, "H W I O"]:
    """Draws a convolution kernel from N(0, 2 / (H W O)), not truncated.

    Args:
      key: Random key.
      shape: (H, W, I, O).
      dtype: Type of the kernel.

    Returns:
      [H, W, I, O]. He et al., https://arxiv.org/abs/1502.01852, over the outputs ("fan out").
    """
    return conv_scale(shape) * jax.random.normal(key, shape, dtype)


def linear_kernel(
    key: jax.Array, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32
) -> Float[Array, "I O"]:
    """Draws a linear kernel from U(-1/sqrt(I), 1/sqrt(I)), Torch's default.

    Args:
      key: Random key.
      shape: (I, O).
      dtype: Type of the kernel.

    Returns:
      [I, O].
    """
    return linear_scale(shape) * jax.random.uniform(key, shape, dtype, -1.0)


def conv_scale(shape: tuple[int, ...]) -> float:
    """Returns the standard deviation of a kernel of shape (H, W, I, O)."""
    height, width, _, outputs = shape
    return math.sqrt(2 / (height * width * outputs))


def linear_scale(shape: tuple[int, ...]) -> float:
    """Returns the largest absolute value of a kernel of shape (I, O)."""
    return 1 / math.sqrt(shape[0])


def initialize(config: DenseNetConfig, key: jax.Array) -> dict[str, Any]:
    """Returns fresh variables without tracing or compiling the network.

    They have the same distribution as `DenseNet(config).init(key, ...)`, whose one random draw per
    layer takes XLA half a minute to compile for the 40-layer net: here is one draw for all layers
    (docs/decisions/0004-initialization.md).

    Args:
      config: The network.
      key: Random key; equal keys give equal variables.

    Returns:
      "params" and "batch_stats" as arrays on the default device.
    """
    check_x64(config)
    dtype = jnp.promote_types(config.dtype, jnp.float32)
    found = flax_arrays(config)
    conv_key, linear_key = jax.random.split(key)
    num_normal = sum(math.prod(array.shape) for array in found if array.kind == "conv")
    normal = np.asarray(jax.random.normal(conv_key, (num_normal,), dtype))
    arrays: dict[tuple[str, ...], np.ndarray] = {}
    used = 0
    for path, shape, kind in found:
        if kind == "conv":
            noise = normal[used : used + math.prod(shape)].reshape(shape)
            used += noise.size
            array = conv_scale(shape) * noise
        elif kind == "linear" and path[-1] == "kernel":
            array = np.asarray(linear_kernel(linear_key, shape, dtype))
            linear_key = jax.random.fold_in(linear_key, 1)
        elif path[-1] in ("scale", "var"):
            array = np.ones(shape, dtype)
        elif path[-1] == "slope":
            array = np.full(shape, PRELU_SLOPE, dtype)
        else:
            array = np.zeros(shape, dtype)
        arrays[path] = array
    return jax.device_put(traverse_util.unflatten_dict(arrays))


def check_x64(config: DenseNetConfig) -> None:
    """Checks that JAX can compute in the configuration's dtype.

    Raises:
      InputError: The dtype is float64 and 64-bit JAX is off.
    """
    if config.dtype == "float64" and not jax.config.jax_enable_x64:  # type: ignore[attr-defined]
        raise InputError(
            "dtype float64 needs 64-bit JAX, which is off; set the environment variable "
            "JAX_ENABLE_X64=1 or call jax.config.update('jax_enable_x64', True)"
        )
