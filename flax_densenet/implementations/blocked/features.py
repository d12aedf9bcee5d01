"""Pooled features, computed chunk by chunk.

Axes: B batch, H height, W width, C channels, D pooled features; G chunks, P pixels of a chunk,
p pixels after pooling.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from flax_densenet.implementations import walk
from flax_densenet.implementations.blocked.block import dense_block
from flax_densenet.implementations.blocked.pooling import (
    Window,
    head_window,
    norm_relu_pool,
    transition_convolution,
    transition_window,
)
from flax_densenet.implementations.blocked.stage import CHANNELS, Convolution, kernel_matrix
from flax_densenet.implementations.chunks import Chunking, from_chunks, resize_chunks, to_chunks
from flax_densenet.implementations.statistics import (
    BatchStatistics,
    Statistics,
    average_prefixes,
    norm_relu,
    normalization,
)
from flax_densenet.implementations.stem import stem
from flax_densenet.implementations.walk import BlockSettings, Layer, Variables
from flax_densenet.network.config import DenseNetConfig

# Some hundred channels of as many pixels are a few MiB, about what a core's cache holds. From 4096
# to 8192 it makes no difference, and below 2048 matrix products slow down (decision 0010).
CHUNKING = Chunking(pixels=8192)


def train(
    config: DenseNetConfig,
    params: Variables,
    running: Variables,
    image: Float[Array, "B H W C"],
    *,
    remat: bool,
) -> tuple[Float[Array, "B D"], dict[str, Any]]:
    """Computes the pooled features on the statistics of the batch, as `walk.train`."""
    return _train(config, params, running, image, remat=remat, chunking=CHUNKING)


def evaluate(
    config: DenseNetConfig,
    params: Variables,
    running: Variables,
    image: Float[Array, "B H W C"],
    *,
    remat: bool,
) -> Float[Array, "B D"]:
    """Computes the pooled features on the running statistics, as `walk.evaluate`.

    Nothing depends on the rest of the batch. A chunk passes through a whole block and the pooling
    after it before the next one does, and only its pooled output is kept.
    """
    return _evaluate(config, params, running, image, remat=remat, chunking=CHUNKING)


# As a whole: outside of jit, JAX would compile each loop in them anew at every call.
@partial(jax.jit, static_argnames=("config", "remat", "chunking"))
def _train(
    config: DenseNetConfig,
    params: Variables,
    running: Variables,
    image: jax.Array,
    *,
    remat: bool,
    chunking: Chunking,
) -> tuple[jax.Array, dict[str, Any]]:
    def train_stem(
        config: DenseNetConfig, params: Variables, image: jax.Array
    ) -> tuple[jax.Array, BatchStatistics | None]:
        x, statistics = stem(config, params, None, image)
        return to_chunks(chunking, jnp.moveaxis(x, -1, 1)), statistics

    def transition(
        settings: BlockSettings, params: Layer, x: jax.Array, statistics: Statistics
    ) -> jax.Array:
        window = transition_window(settings)
        x = norm_relu_pool(window, settings.epsilon, params["norm"], x, statistics)
        x = transition_convolution(params, x)
        return resize_chunks(chunking, x, window.pooled_height, window.pooled_width)

    def head(
        settings: BlockSettings, norm: Layer, x: jax.Array, statistics: Statistics
    ) -> jax.Array:
        return from_chunks(
            norm_relu_pool(head_window(settings), settings.epsilon, norm, x, statistics)
        )

    parts = walk.TrainParts(train_stem, dense_block, transition, head, average_prefixes)
    return walk.train(parts, config, params, running, image, remat=remat)


@partial(jax.jit, static_argnames=("config", "remat", "chunking"))
def _evaluate(
    config: DenseNetConfig,
    params: Variables,
    running: Variables,
    image: jax.Array,
    *,
    remat: bool,
    chunking: Chunking,
) -> jax.Array:
    def evaluate_stem(
        config: DenseNetConfig, params: Variables, running: Variables, image: jax.Array
    ) -> jax.Array:
        return to_chunks(chunking, jnp.moveaxis(stem(config, params, running, image)[0], -1, 1))

    def transition(
        settings: BlockSettings,
        layers: Sequence[Layer],
        running_layers: Sequence[Layer],
        params: Layer,
        running: Layer,
        x: jax.Array,
    ) -> jax.Array:
        window = transition_window(settings)
        norms = params["norm"], running["norm"]
        x = _block_and_pooling(settings, layers, running_layers, window, *norms, x)
        x = transition_convolution(params, x)
        return resize_chunks(chunking, x, window.pooled_height, window.pooled_width)

    def head(
        settings: BlockSettings,
        layers: Sequence[Layer],
        running_layers: Sequence[Layer],
        norm: Layer,
        running: Layer,
        x: jax.Array,
    ) -> jax.Array:
        window = head_window(settings)
        return from_chunks(
            _block_and_pooling(settings, layers, running_layers, window, norm, running, x)
        )

    parts = walk.EvaluateParts(evaluate_stem, transition, head)
    return walk.evaluate(parts, config, params, running, image, remat=remat)


def _block_and_pooling(
    settings: BlockSettings,
    layers: Sequence[Layer],
    running_layers: Sequence[Layer],
    window: Window,
    norm: Layer,
    running_norm: Layer,
    x: Float[Array, "G C P"],
) -> Float[Array, "G D p"]:
    """Takes all chunks through a block and the normalization, ReLU and pooling after it."""

    def through_all(chunk: jax.Array) -> jax.Array:
        chunk = _block(settings, layers, running_layers, chunk)
        return window.pool(_norm_relu(settings, norm, running_norm, chunk))

    return lax.map(jax.checkpoint(through_all) if settings.remat else through_all, x)


def _block(
    settings: BlockSettings,
    layers: Sequence[Layer],
    running_layers: Sequence[Layer],
    x: Float[Array, "C P"],
) -> Float[Array, "D P"]:
    channels = x.shape[0]
    growth_rate = layers[0]["conv2" if "conv2" in layers[0] else "conv1"]["kernel"].shape[3]
    joined = channels + len(layers) * growth_rate
    features = lax.dynamic_update_slice(jnp.zeros((joined, x.shape[1]), x.dtype), x, (0, 0))
    for layer, running in zip(layers, running_layers, strict=True):
        y = features[:channels]
        for stage in ("1", "2") if "conv2" in layer else ("1",):
            kernel = layer[f"conv{stage}"]["kernel"]
            convolution = Convolution(kernel.shape[0], settings.height, settings.width)
            y = _norm_relu(settings, layer[f"norm{stage}"], running[f"norm{stage}"], y)
            y = convolution.add_taps(kernel_matrix(kernel) @ y)
        features = lax.dynamic_update_slice(features, y, (channels, 0))
        channels += growth_rate
    return features


def _norm_relu(
    settings: BlockSettings, norm: Layer, running: Layer, x: Float[Array, "C P"]
) -> Float[Array, "C P"]:
    return norm_relu(normalization(norm, Statistics(**running), settings.epsilon), x, CHANNELS)
