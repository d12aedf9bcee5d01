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

from flax_densenet.implementations.gpu.convolution import convolve
from flax_densenet.implementations.gpu.transition import head, transition
from flax_densenet.implementations.statistics import (
    Normalization,
    Statistics,
    at_least_float32,
    norm_relu,
    normalization,
)
from flax_densenet.implementations.stem import stem
from flax_densenet.network.activation import relu
from flax_densenet.network.config import DenseNetConfig

_Parameters = Mapping[str, Any]


def evaluate(
    config: DenseNetConfig,
    params: _Parameters,
    running: _Parameters,
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
    last_block = len(config.block_sizes)
    for block, num_layers in enumerate(config.block_sizes, start=1):
        layers, of_layers = params[f"denseblock{block}"], running[f"denseblock{block}"]
        maps = [x]
        for name in (f"denselayer{number}" for number in range(1, num_layers + 1)):
            maps.append(through_layer(epsilon, layers[name], of_layers[name], maps))
        x = jnp.concatenate(maps, axis=-1)
        if block != last_block:
            behind, of_behind = params[f"transition{block}"], running[f"transition{block}"]
            norm = _normalization(epsilon, behind["norm"], of_behind["norm"])
            x = transition(norm, behind["conv"]["kernel"], x)
    return head(_normalization(epsilon, params["norm5"], running["norm5"]), x)


def _layer(
    epsilon: float, layer: _Parameters, running: _Parameters, maps: list[jax.Array]
) -> Float[Array, "B H W K"]:
    first = _normalization(epsilon, layer["norm1"], running["norm1"])
    x, kernel = norm_relu(first, jnp.concatenate(maps, axis=-1)), layer["conv1"]["kernel"]
    if "norm2" not in layer:
        return convolve(x, kernel)
    second = _normalization(epsilon, layer["norm2"], running["norm2"])
    y = convolve(x, kernel * second.factor)
    bias = second.bias - second.mean * second.factor
    y = relu(y.astype(at_least_float32(y.dtype)) + bias).astype(y.dtype)
    return convolve(y, layer["conv2"]["kernel"])


def _normalization(
    epsilon: float, norm: dict[str, jax.Array], running: _Parameters
) -> Normalization:
    return normalization(norm, Statistics(**running), epsilon)
