"""A block in evaluation, and what is behind it.

Axes: G chunks, C channels before the block, D after what is behind it, P pixels of a chunk, p those
after pooling.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from flax_densenet.implementations.blocked.normalization import norm_relu
from flax_densenet.implementations.blocked.pooling import (
    head_window,
    transition_convolution,
    transition_window,
)
from flax_densenet.implementations.blocked.stage import Convolution, kernel_matrix
from flax_densenet.implementations.statistics import Statistics, normalization
from flax_densenet.implementations.walk import BlockOptions, Layer, Variables
from flax_densenet.network.config import DenseNetConfig


def evaluate_block(
    options: BlockOptions,
    config: DenseNetConfig,
    params: Variables,
    running: Variables,
    block: int,
    x: Float[Array, "G C P"],
) -> Float[Array, "G D p"]:
    """Takes all chunks through a block and what is behind it.

    Args:
      options: What is fixed.
      config: The network.
      params: Its parameters under torchvision's names.
      running: Its running statistics, likewise.
      block: Number of the block, from 1.
      x: [G, C, P].
    """
    layers, statistics = params[f"denseblock{block}"], running[f"denseblock{block}"]
    through_block = partial(_through_block, options, config, layers, statistics)
    if block == len(config.block_sizes):
        norm, of_norm, window = params["norm5"], running["norm5"], head_window(options)
    else:
        name = f"transition{block}"
        norm, of_norm = params[name]["norm"], running[name]["norm"]
        window = transition_window(options)

    def through_all(chunk: jax.Array) -> jax.Array:
        return window.pool(_activation(options, norm, of_norm, through_block(chunk)))

    x = lax.map(jax.checkpoint(through_all) if options.remat else through_all, x)
    if block == len(config.block_sizes):
        return x
    return transition_convolution(params[f"transition{block}"], x)


def _through_block(
    options: BlockOptions,
    config: DenseNetConfig,
    layers: Variables,
    running: Variables,
    x: Float[Array, "C P"],
) -> Float[Array, "D P"]:
    channels = x.shape[0]
    joined = channels + len(layers) * config.growth_rate
    features = lax.dynamic_update_slice(jnp.zeros((joined, x.shape[1]), x.dtype), x, (0, 0))
    for number in range(1, len(layers) + 1):
        layer, statistics = layers[f"denselayer{number}"], running[f"denselayer{number}"]
        y = features[:channels]
        for stage in range(1, config.convolutions_per_layer + 1):
            kernel = layer[f"conv{stage}"]["kernel"]
            convolution = Convolution(kernel.shape[0], options.height, options.width)
            y = _activation(options, layer[f"norm{stage}"], statistics[f"norm{stage}"], y)
            y = convolution.add_taps(kernel_matrix(kernel) @ y)
        features = lax.dynamic_update_slice(features, y, (channels, 0))
        channels += config.growth_rate
    return features


def _activation(
    options: BlockOptions, norm: Layer, running: Layer, x: Float[Array, "C P"]
) -> Float[Array, "C P"]:
    return norm_relu(normalization(norm, Statistics(**running), options.epsilon), x)
