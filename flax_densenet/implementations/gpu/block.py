"""A dense block in training, as one differentiable function.

Its backward pass goes through the layers once. A layer's gradient for the maps that it read is
added to that of the later layers, in the same pass over memory that sums it up for scale and bias.
The gradient through the statistics, which would need the sums first, is applied once for all
layers.

Axes: B batch, H height, W width, C channels before the block, D channels after it.
"""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from flax_densenet.implementations.gpu.convolution import convolve
from flax_densenet.implementations.statistics import (
    Normalization,
    Statistics,
    at_least_float32,
    batch_statistics,
    norm_relu,
    norm_relu_gradient,
    normalization,
    parameter_gradients,
    through_statistics,
)
from flax_densenet.implementations.stem import CHANNELS
from flax_densenet.implementations.walk import BlockOutput, BlockSettings, Layer


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def dense_block(
    settings: BlockSettings, layers: Sequence[Layer], x: Float[Array, "B H W C"]
) -> BlockOutput:
    """Computes a dense block on the statistics of the batch.

    Args:
      settings: Constants; with `remat`, normalizations and bottlenecks are computed again in the
        backward pass.
      layers: Parameters of each layer under their names in the network: "norm1" with "scale" and
        "bias", "conv1" with "kernel", and with a bottleneck "norm2" and "conv2".
      x: [B, H, W, C].
    """
    return _forward(settings, layers, x)[0]


def _forward(
    settings: BlockSettings, layers: Sequence[Layer], x: jax.Array
) -> tuple[BlockOutput, tuple]:
    maps, statistics = [x], batch_statistics(x, CHANNELS)
    bottlenecks, inner = [], []
    for layer in layers:
        norm = normalization(layer["norm1"], statistics, settings.epsilon)
        y = convolve(
            norm_relu(norm, jnp.concatenate(maps, axis=-1), CHANNELS), layer["conv1"]["kernel"]
        )
        if "norm2" in layer:
            bottlenecks.append(None if settings.remat else y)
            inner.append(batch_statistics(y, CHANNELS))
            norm = normalization(layer["norm2"], inner[-1], settings.epsilon)
            y = convolve(norm_relu(norm, y, CHANNELS), layer["conv2"]["kernel"])
        maps.append(y)
        statistics = statistics.join(batch_statistics(y, CHANNELS))
    output = BlockOutput(jnp.concatenate(maps, axis=-1), statistics, inner)
    return output, (layers, maps, statistics, bottlenecks, inner)


def _backward(
    settings: BlockSettings, kept: tuple, gradient: BlockOutput
) -> tuple[list[Layer], jax.Array]:
    layers, maps, statistics, bottlenecks, inner = kept
    maps = list(maps)
    grad_maps, grad_statistics, grad_inner = gradient  # of all maps that are not yet done
    grad_layers: list[Layer] = []
    for number in reversed(range(len(layers))):
        layer = layers[number]
        grad_layer: Layer = {}
        if settings.remat:  # or XLA would find these maps computed already, and keep them
            maps, grad_maps = lax.optimization_barrier((maps, grad_maps))
        y = maps.pop()
        start = grad_statistics.mean.size - y.shape[-1]
        through = _through(y, statistics.after(start), grad_statistics.after(start))
        dy = _add(grad_maps[..., start:], through)
        statistics, grad_statistics = statistics.prefix(start), grad_statistics.prefix(start)
        x = jnp.concatenate(maps, axis=-1)
        norm = normalization(layer["norm1"], statistics, settings.epsilon)
        read = norm_relu(norm, x, CHANNELS)
        if "norm2" in layer:
            bottleneck = bottlenecks[number]
            if bottleneck is None:
                bottleneck = convolve(read, layer["conv1"]["kernel"])
            second = normalization(layer["norm2"], inner[number], settings.epsilon)
            grad_bottleneck, grad_layer["norm2"], grad_layer["conv2"], more = _stage_gradient(
                second, bottleneck, norm_relu(second, bottleneck, CHANNELS), layer["conv2"], dy
            )
            more = grad_inner[number].plus(more)
            through = _through(bottleneck, inner[number], more)
            dy = (grad_bottleneck + through).astype(dy.dtype)
        grad_x, grad_layer["norm1"], grad_layer["conv1"], more = _stage_gradient(
            norm, x, read, layer["conv1"], dy
        )
        grad_maps = _add(grad_maps[..., :start], grad_x)
        grad_statistics = grad_statistics.plus(more)
        grad_layers.append(grad_layer)
    grad_x = _add(grad_maps, _through(maps[0], statistics, grad_statistics))
    return grad_layers[::-1], grad_x


dense_block.defvjp(_forward, _backward)


def _stage_gradient(
    norm: Normalization, x: jax.Array, read: jax.Array, conv: Layer, dy: jax.Array
) -> tuple[jax.Array, Layer, Layer, Statistics]:
    """Returns the gradients for x, normalization, convolution and the statistics of x."""
    _, gradients = jax.vjp(convolve, read, conv["kernel"])
    grad_read, grad_kernel = gradients(dy)
    grad_x, sums = norm_relu_gradient(norm, x, read, grad_read, CHANNELS)
    grad_norm, grad_statistics = parameter_gradients(norm, sums)
    return grad_x, grad_norm, {"kernel": grad_kernel}, grad_statistics


def _add(x: jax.Array, more: jax.Array) -> jax.Array:
    return (x.astype(at_least_float32(x.dtype)) + more).astype(x.dtype)


def _through(x: jax.Array, statistics: Statistics, gradients: Statistics) -> jax.Array:
    return through_statistics(x, statistics, gradients, x.size // x.shape[CHANNELS], CHANNELS)
