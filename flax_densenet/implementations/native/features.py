"""Pooled features, computed by the compiled parts.

Axes: B batch, H height, W width, C channels, D pooled features; G chunks, P pixels of a chunk,
p pixels after pooling.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
from jaxtyping import Array, Float

from flax_densenet.implementations import blocked, walk
from flax_densenet.implementations.blocked.pooling import head_window, norm_relu_pool
from flax_densenet.implementations.chunks import Chunking, from_chunks, resize_chunks, to_chunks
from flax_densenet.implementations.native.block import dense_block
from flax_densenet.implementations.native.calls import average_prefixes
from flax_densenet.implementations.native.evaluation import evaluate_block
from flax_densenet.implementations.native.stem import evaluate_stem, train_stem
from flax_densenet.implementations.native.transition import transition
from flax_densenet.implementations.statistics import BatchStatistics, Statistics
from flax_densenet.implementations.walk import BlockSettings, Layer, Variables
from flax_densenet.network.config import DenseNetConfig

# The data of a thread for so many pixels fits its second cache, and all threads have chunks.
CHUNKING = Chunking(pixels=1024, least=4)


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

    Where a derivative is wanted, as with frozen statistics, `blocked` computes everything.
    """
    return _evaluate(config, remat, CHUNKING, params, running, image)


# As a whole: outside of jit, JAX would compile each part anew at every call.
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
    def chunked_stem(
        config: DenseNetConfig, params: Variables, image: jax.Array
    ) -> tuple[jax.Array, BatchStatistics | None]:
        x, statistics = train_stem(config, params, image)
        return to_chunks(chunking, x), statistics

    def resized_transition(
        settings: BlockSettings, params: Layer, x: jax.Array, statistics: Statistics
    ) -> jax.Array:
        x = transition(settings, params, x, statistics)
        return resize_chunks(chunking, x, settings.height // 2, settings.width // 2)

    parts = walk.TrainParts(chunked_stem, dense_block, resized_transition, _head, average_prefixes)
    return walk.train(parts, config, params, running, image, remat=remat)


@partial(jax.custom_jvp, nondiff_argnums=(0, 1, 2))
def _differentiable(
    config: DenseNetConfig,
    remat: bool,
    chunking: Chunking,
    params: Variables,
    running: Variables,
    image: jax.Array,
) -> jax.Array:
    def chunked_stem(
        config: DenseNetConfig, params: Variables, running: Variables, image: jax.Array
    ) -> jax.Array:
        return to_chunks(chunking, evaluate_stem(config, params, running, image))

    def block_and_transition(
        settings: BlockSettings,
        layers: Sequence[Layer],
        running_layers: Sequence[Layer],
        params: Layer,
        running: Layer,
        x: jax.Array,
    ) -> jax.Array:
        x = evaluate_block(settings, layers, running_layers, x, transition=(params, running))
        return resize_chunks(chunking, x, settings.height // 2, settings.width // 2)

    def block_and_head(
        settings: BlockSettings,
        layers: Sequence[Layer],
        running_layers: Sequence[Layer],
        norm: Layer,
        running: Layer,
        x: jax.Array,
    ) -> jax.Array:
        x = evaluate_block(settings, layers, running_layers, x)
        return _head(settings, norm, x, Statistics(**running))

    parts = walk.EvaluateParts(chunked_stem, block_and_transition, block_and_head)
    return walk.evaluate(parts, config, params, running, image, remat=remat)


@_differentiable.defjvp
def _differentiate(
    config: DenseNetConfig, remat: bool, chunking: Chunking, primals: tuple, tangents: tuple
) -> tuple[jax.Array, jax.Array]:
    return jax.jvp(partial(blocked.evaluate, config, remat=remat), primals, tangents)


_evaluate = jax.jit(_differentiable, static_argnums=(0, 1, 2))


def _head(
    settings: BlockSettings, norm: Layer, x: Float[Array, "G C P"], statistics: Statistics
) -> Float[Array, "B C"]:
    window = head_window(settings)
    return from_chunks(norm_relu_pool(window, settings.epsilon, norm, x, statistics))
