"""Everything but the classifier, in evaluation.

Axes: B batch, H height, W width, C channels, K channels of a convolution's result.

A normalization that alone reads a convolution's result is folded into its kernel; what is left of
it is a bias (docs/decisions/0011-shared-statistics.md).
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from flax_densenet.activation import relu
from flax_densenet.config import DenseNetConfig
from flax_densenet.formulations.normalization import at_least_float32, norm_relu
from flax_densenet.formulations.shared_statistics.convolution import convolve
from flax_densenet.formulations.shared_statistics.pooling import pool, pool_all
from flax_densenet.formulations.statistics import Statistics, normalization
from flax_densenet.formulations.stem import stem

Variables = Mapping[str, Any]


def evaluate(
    config: DenseNetConfig,
    params: Variables,
    running: Variables,
    image: Float[Array, "B H W C"],
    remat: bool,
) -> Float[Array, "B D"]:
    """Computes the pooled features on the running statistics.

    Args:
      config: The network.
      params: Its parameters under torchvision's names.
      running: Its running statistics, likewise.
      image: [B, H, W, C].
      remat: Compute the layers again in a backward pass, if there is one.
    """
    epsilon = config.batch_norm_epsilon
    through_layer = jax.checkpoint(_layer, static_argnums=0) if remat else _layer
    x, _ = stem(config, params, running, image)
    for block, num_layers in enumerate(config.block_sizes, start=1):
        name = f"denseblock{block}"
        maps = [x]
        for layer in (f"denselayer{number}" for number in range(1, num_layers + 1)):
            maps.append(through_layer(epsilon, params[name][layer], running[name][layer], maps))
        x = jnp.concatenate(maps, axis=-1)
        if block == len(config.block_sizes):
            x = _activation(epsilon, params["norm5"], running["norm5"], x)
        else:
            name = f"transition{block}"
            x = _activation(epsilon, params[name]["norm"], running[name]["norm"], x)
            # Both are linear, so that pooling first is the same with a quarter of the work.
            x = convolve(pool(x), params[name]["conv"]["kernel"])
    return pool_all(x)


def _layer(
    epsilon: float, layer: Variables, running: Variables, maps: list[jax.Array]
) -> Float[Array, "B H W K"]:
    x = _activation(epsilon, layer["norm1"], running["norm1"], jnp.concatenate(maps, axis=-1))
    kernel = layer["conv1"]["kernel"]
    if "norm2" not in layer:
        return convolve(x, kernel)
    norm = normalization(layer["norm2"], Statistics(**running["norm2"]), epsilon)
    y = convolve(x, kernel * norm.factor)
    bias = norm.bias - norm.mean * norm.factor
    y = relu(y.astype(at_least_float32(y.dtype)) + bias).astype(y.dtype)
    return convolve(y, layer["conv2"]["kernel"])


def _activation(
    epsilon: float, norm: dict[str, jax.Array], running: Variables, x: Float[Array, "B H W C"]
) -> Float[Array, "B H W C"]:
    return norm_relu(normalization(norm, Statistics(**running), epsilon), x)
