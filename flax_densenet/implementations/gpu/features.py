"""Pooled features, with fewer passes over the memory of a GPU.

Axes: B batch, H height, W width, C channels, K channels of a convolution's result, D channels after
a transition or pooled features.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from flax_densenet.implementations import walk
from flax_densenet.implementations.gpu.block import dense_block
from flax_densenet.implementations.gpu.convolution import convolve
from flax_densenet.implementations.statistics import (
    Normalization,
    Statistics,
    at_least_float32,
    average_prefixes,
    norm_relu,
    normalization,
)
from flax_densenet.implementations.stem import CHANNELS, stem
from flax_densenet.implementations.walk import BlockSettings, Layer, Variables
from flax_densenet.network.activation import relu
from flax_densenet.network.config import DenseNetConfig


@partial(jax.jit, static_argnames=("config", "remat"))
def train(
    config: DenseNetConfig,
    params: Variables,
    running: Variables,
    image: Float[Array, "B H W C"],
    *,
    remat: bool,
) -> tuple[Float[Array, "B D"], dict[str, Any]]:
    """Computes the pooled features on the statistics of the batch, as `walk.train`."""
    parts = walk.TrainParts(
        lambda config, params, image: stem(config, params, None, image),
        dense_block,
        lambda settings, params, x, statistics: _transition(
            normalization(params["norm"], statistics, settings.epsilon), params["conv"]["kernel"], x
        ),
        lambda settings, norm, x, statistics: _head(
            normalization(norm, statistics, settings.epsilon), x
        ),
        average_prefixes,
    )
    return walk.train(parts, config, params, running, image, remat=remat)


@partial(jax.jit, static_argnames=("config", "remat"))
def evaluate(
    config: DenseNetConfig,
    params: Variables,
    running: Variables,
    image: Float[Array, "B H W C"],
    *,
    remat: bool,
) -> Float[Array, "B D"]:
    """Computes the pooled features on the running statistics, as `walk.evaluate`.

    A normalization that alone reads a convolution's result is folded into its kernel. Its bias
    remains (docs/decisions/0011-shared-statistics.md).
    """
    parts = walk.EvaluateParts(
        lambda config, params, running, image: stem(config, params, running, image)[0],
        _evaluate_transition,
        _evaluate_head,
    )
    return walk.evaluate(parts, config, params, running, image, remat=remat)


def _evaluate_transition(
    settings: BlockSettings,
    layers: Sequence[Layer],
    running_layers: Sequence[Layer],
    params: Layer,
    running: Layer,
    x: Float[Array, "B H W C"],
) -> Float[Array, "B h w D"]:
    x = _block(settings, layers, running_layers, x)
    norm = normalization(params["norm"], Statistics(**running["norm"]), settings.epsilon)
    return _transition(norm, params["conv"]["kernel"], x)


def _evaluate_head(
    settings: BlockSettings,
    layers: Sequence[Layer],
    running_layers: Sequence[Layer],
    norm: Layer,
    running: Layer,
    x: Float[Array, "B H W C"],
) -> Float[Array, "B D"]:
    x = _block(settings, layers, running_layers, x)
    return _head(normalization(norm, Statistics(**running), settings.epsilon), x)


def _block(
    settings: BlockSettings,
    layers: Sequence[Layer],
    running_layers: Sequence[Layer],
    x: Float[Array, "B H W C"],
) -> Float[Array, "B H W D"]:
    through_layer = jax.checkpoint(_layer, static_argnums=0) if settings.remat else _layer
    maps = [x]
    for layer, running in zip(layers, running_layers, strict=True):
        maps.append(through_layer(settings.epsilon, layer, running, maps))
    return jnp.concatenate(maps, axis=CHANNELS)


def _layer(
    epsilon: float, layer: Layer, running: Layer, maps: list[jax.Array]
) -> Float[Array, "B H W K"]:
    first = normalization(layer["norm1"], Statistics(**running["norm1"]), epsilon)
    x = norm_relu(first, jnp.concatenate(maps, axis=CHANNELS), CHANNELS)
    kernel = layer["conv1"]["kernel"]
    if "norm2" not in layer:
        return convolve(x, kernel)
    second = normalization(layer["norm2"], Statistics(**running["norm2"]), epsilon)
    y = convolve(x, kernel * second.factor)
    bias = second.bias - second.mean * second.factor
    y = relu(y.astype(at_least_float32(y.dtype)) + bias).astype(y.dtype)
    return convolve(y, layer["conv2"]["kernel"])


def _transition(
    norm: Normalization, kernel: Float[Array, "1 1 C D"], x: Float[Array, "B H W C"]
) -> Float[Array, "B h w D"]:
    """Normalizes, applies ReLU, convolves and takes the mean of 2x2 pixels.

    An odd last row or column is left out.
    """
    x = norm_relu(norm, x, CHANNELS)
    batch_size, height, width, channels = x.shape
    rows, columns = height // 2, width // 2
    windows = x[:, : 2 * rows, : 2 * columns].reshape(batch_size, rows, 2, columns, 2, channels)
    pooled = jnp.mean(windows.astype(at_least_float32(x.dtype)), axis=(2, 4)).astype(x.dtype)
    # Both are linear, so that pooling first is the same with a quarter of the work.
    return convolve(pooled, kernel)


def _head(norm: Normalization, x: Float[Array, "B H W C"]) -> Float[Array, "B C"]:
    """Normalizes, applies ReLU and takes the mean of all pixels."""
    x = norm_relu(norm, x, CHANNELS)
    return jnp.mean(x.astype(at_least_float32(x.dtype)), axis=(1, 2)).astype(x.dtype)
