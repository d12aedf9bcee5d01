"""A dense block in training, as one differentiable function.

It keeps the joined feature maps and, unless `remat`, the bottlenecks. Everything else is computed
again in the backward pass. Both passes write into one array for all layers, in place, where
concatenation would copy it for each layer.

Axes: G chunks, C channels before the block, D channels after it, P pixels of a chunk.
"""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from flax_densenet.implementations.blocked.stage import (
    CHANNELS,
    Convolution,
    Stage,
    StageGradients,
    backward,
    forward,
    merge_statistics,
)
from flax_densenet.implementations.chunks import empty_after
from flax_densenet.implementations.statistics import (
    Statistics,
    batch_statistics,
    normalization,
    through_statistics,
)
from flax_densenet.implementations.walk import BlockOutput, BlockSettings, Layer


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def dense_block(
    settings: BlockSettings, layers: Sequence[Layer], x: Float[Array, "G C P"]
) -> BlockOutput:
    """Computes a dense block on the statistics of the batch.

    Args:
      settings: What is fixed.
      layers: Parameters of each layer under their names in the network: "norm1" with "scale" and
        "bias", "conv1" with "kernel", and with a bottleneck "norm2" and "conv2".
      x: [G, C, P].
    """
    return _forward(settings, layers, x)[0]


def _forward(
    settings: BlockSettings, layers: Sequence[Layer], x: jax.Array
) -> tuple[BlockOutput, tuple]:
    growth_rate = _last_kernel(layers[0]).shape[3]
    num_chunks, channels, pixels = x.shape
    shape = (num_chunks, channels + growth_rate * len(layers), pixels)
    features = lax.dynamic_update_slice(jnp.zeros(shape, x.dtype), x, (0, 0, 0))
    statistics = merge_statistics(jax.vmap(partial(batch_statistics, axis=CHANNELS))(x))
    inner, bottlenecks = [], []
    for layer in layers:
        start = statistics.mean.size
        source = None
        stage = _stage(settings, layer, 1, statistics)
        if "norm2" in layer:
            source, inner_statistics = _bottleneck(stage, features, statistics.mean)
            inner.append(inner_statistics)
            bottlenecks.append(None if settings.remat else source)
            stage = _stage(settings, layer, 2, inner_statistics)
        features, new = forward(stage, source, features, start)
        statistics = statistics.join(new)
    output = BlockOutput(features, statistics, inner)
    return output, (layers, output, bottlenecks)


def _backward(
    settings: BlockSettings, kept: tuple, gradient: BlockOutput
) -> tuple[list[Layer], jax.Array]:
    layers, (features, statistics, inner), bottlenecks = kept
    grad_features, grad_statistics, grad_inner = gradient
    grad_layers: list[Layer] = []
    grad_bottleneck = None  # one array for all layers, one after the other
    for number in reversed(range(len(layers))):
        layer = layers[number]
        growth_rate = _last_kernel(layer).shape[3]
        start = grad_statistics.mean.size - growth_rate
        before, grad_before = statistics.prefix(start), grad_statistics.prefix(start)
        new = statistics.prefix(start + growth_rate).after(start), grad_statistics.after(start)
        stage = _stage(settings, layer, 1, before)
        grad_layer: Layer = {}
        if "norm2" in layer:
            bottleneck = bottlenecks[number]
            if bottleneck is None:
                bottleneck, _ = _bottleneck(stage, features, grad_statistics.mean)
            second = _stage(settings, layer, 2, inner[number])
            if grad_bottleneck is None:
                grad_bottleneck = empty_after(grad_statistics.mean, bottleneck.shape)
            grad_bottleneck, gradients = backward(
                second,
                bottleneck,
                features,
                start,
                grad_features,
                grad_bottleneck,
                *new,
                adds=False,
            )
            grad_layer |= _named(gradients, 2)
            grad_inner_statistics = grad_inner[number].plus(gradients.statistics)
            grad_features, gradients = backward(
                stage,
                features,
                bottleneck,
                0,
                grad_bottleneck,
                grad_features,
                inner[number],
                grad_inner_statistics,
                adds=True,
            )
        else:
            grad_features, gradients = backward(
                stage, features, features, start, None, grad_features, *new, adds=True
            )
        grad_layer |= _named(gradients, 1)
        grad_layers.append(grad_layer)
        grad_statistics = grad_before.plus(gradients.statistics)
    channels = grad_statistics.mean.size
    count = features.shape[0] * features.shape[2]
    through = partial(
        through_statistics,
        statistics=statistics.prefix(channels),
        gradients=grad_statistics,
        count=count,
        axis=CHANNELS,
    )
    grad_x = grad_features[:, :channels] + jax.vmap(through)(features[:, :channels])
    return grad_layers[::-1], grad_x


dense_block.defvjp(_forward, _backward)


def _stage(settings: BlockSettings, layer: Layer, number: int, statistics: Statistics) -> Stage:
    kernel = layer[f"conv{number}"]["kernel"]
    return Stage(
        normalization(layer[f"norm{number}"], statistics, settings.epsilon),
        kernel,
        Convolution(kernel.shape[0], settings.height, settings.width),
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
