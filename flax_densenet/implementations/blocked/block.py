"""A dense block in training, as one differentiable function.

Axes: G chunks, C channels before the block, D after it, P pixels of a chunk.

It keeps the joined feature maps and, unless `remat`, the bottlenecks; everything else is computed
again in the backward pass. Both passes write into one array for all layers, in place, where
concatenation would copy it for each layer.
"""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from flax_densenet.implementations.blocked.normalization import (
    chunk_statistics,
    merge_statistics,
    through_statistics,
)
from flax_densenet.implementations.blocked.stage import (
    Convolution,
    Stage,
    StageGradients,
    backward,
    forward,
)
from flax_densenet.implementations.chunks import empty_after
from flax_densenet.implementations.statistics import Statistics, normalization
from flax_densenet.implementations.walk import BlockOptions, BlockOutput, Layer


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def dense_block(
    options: BlockOptions, layers: Sequence[Layer], x: Float[Array, "G C P"]
) -> BlockOutput:
    """Computes a dense block on the statistics of the batch.

    Args:
      options: What is fixed.
      layers: Parameters of each layer under their names in the network: "norm1" with "scale" and
        "bias", "conv1" with "kernel", and with a bottleneck "norm2" and "conv2".
      x: [G, C, P].
    """
    return _forward(options, layers, x)[0]


def _forward(
    options: BlockOptions, layers: Sequence[Layer], x: jax.Array
) -> tuple[BlockOutput, tuple]:
    growth_rate = _last_kernel(layers[0]).shape[3]
    num_chunks, channels, pixels = x.shape
    shape = (num_chunks, channels + growth_rate * len(layers), pixels)
    features = lax.dynamic_update_slice(jnp.zeros(shape, x.dtype), x, (0, 0, 0))
    statistics = merge_statistics(jax.vmap(chunk_statistics)(x))
    inner, bottlenecks = [], []
    for layer in layers:
        start = statistics.mean.size
        source = None
        stage = _stage(options, layer, 1, statistics)
        if "norm2" in layer:
            source, inner_statistics = _bottleneck(stage, features, statistics.mean)
            inner.append(inner_statistics)
            bottlenecks.append(None if options.remat else source)
            stage = _stage(options, layer, 2, inner_statistics)
        features, new = forward(stage, source, features, start)
        statistics = statistics.join(new)
    output = BlockOutput(features, statistics, inner)
    return output, (layers, output, bottlenecks)


def _backward(
    options: BlockOptions, kept: tuple, gradient: BlockOutput
) -> tuple[list[Layer], jax.Array]:
    layers, (features, statistics, inner), bottlenecks = kept
    of_features, of_statistics, of_inner = gradient
    of_layers: list[Layer] = []
    of_bottleneck = None  # one array for all layers, one after the other
    for number in reversed(range(len(layers))):
        layer = layers[number]
        growth_rate = _last_kernel(layer).shape[3]
        start = of_statistics.mean.size - growth_rate
        before, of_before = statistics.prefix(start), of_statistics.prefix(start)
        new = statistics.prefix(start + growth_rate).after(start), of_statistics.after(start)
        stage = _stage(options, layer, 1, before)
        of_layer: Layer = {}
        if "norm2" in layer:
            bottleneck = bottlenecks[number]
            if bottleneck is None:
                bottleneck, _ = _bottleneck(stage, features, of_statistics.mean)
            second = _stage(options, layer, 2, inner[number])
            if of_bottleneck is None:
                of_bottleneck = empty_after(of_statistics.mean, bottleneck.shape)
            of_bottleneck, gradients = backward(
                second, bottleneck, features, start, of_features, of_bottleneck, *new, adds=False
            )
            of_layer |= _named(gradients, 2)
            of_inner_statistics = jax.tree.map(jnp.add, of_inner[number], gradients.statistics)
            of_features, gradients = backward(
                stage,
                features,
                bottleneck,
                0,
                of_bottleneck,
                of_features,
                inner[number],
                of_inner_statistics,
                adds=True,
            )
        else:
            of_features, gradients = backward(
                stage, features, features, start, None, of_features, *new, adds=True
            )
        of_layer |= _named(gradients, 1)
        of_layers.append(of_layer)
        of_statistics = jax.tree.map(jnp.add, of_before, gradients.statistics)
    channels = of_statistics.mean.size
    count = features.shape[0] * features.shape[2]
    through = partial(
        through_statistics,
        statistics=statistics.prefix(channels),
        gradients=of_statistics,
        count=count,
    )
    of_x = of_features[:, :channels] + jax.vmap(through)(features[:, :channels])
    return of_layers[::-1], of_x


dense_block.defvjp(_forward, _backward)


def _stage(options: BlockOptions, layer: Layer, number: int, statistics: Statistics) -> Stage:
    kernel = layer[f"conv{number}"]["kernel"]
    return Stage(
        normalization(layer[f"norm{number}"], statistics, options.epsilon),
        kernel,
        Convolution(kernel.shape[0], options.height, options.width),
    )


def _bottleneck(
    stage: Stage, features: jax.Array, cause: jax.Array
) -> tuple[jax.Array, Statistics]:
    num_chunks, _, pixels = features.shape
    empty = empty_after(cause, (num_chunks, stage.num_outputs, pixels))
    return forward(stage, features, empty, 0)


def _last_kernel(layer: Layer) -> jax.Array:
    return layer["conv2" if "conv2" in layer else "conv1"]["kernel"]


def _named(gradients: StageGradients, number: int) -> Layer:
    return {f"norm{number}": gradients.norm, f"conv{number}": {"kernel": gradients.kernel}}
