"""A dense block in training, as one differentiable function.

Axes: B batch, H height, W width, C channels before the block, D after it, k growth rate.

Its backward pass goes through the layers once. A layer's gradient for the maps that it read is
added to that of the later layers in the same pass over memory that sums it up for scale and bias:
the way through the statistics, which would need the sums first, is gone once for all layers.
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
from flax_densenet.implementations.walk import BlockOutput, Layer


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def dense_block(
    epsilon: float, remat: bool, layers: Sequence[Layer], x: Float[Array, "B H W C"]
) -> BlockOutput:
    """Computes a dense block on the statistics of the batch.

    Args:
      epsilon: Added to the variances.
      remat: Compute normalizations and bottlenecks again in the backward pass.
      layers: Parameters of each layer under their names in the network: "norm1" with "scale" and
        "bias", "conv1" with "kernel", and with a bottleneck "norm2" and "conv2".
      x: [B, H, W, C].
    """
    return _forward(epsilon, remat, layers, x)[0]


def _forward(
    epsilon: float, remat: bool, layers: Sequence[Layer], x: jax.Array
) -> tuple[BlockOutput, tuple]:
    maps, statistics = [x], batch_statistics(x)
    bottlenecks, inner = [], []
    for layer in layers:
        norm = normalization(layer["norm1"], statistics, epsilon)
        y = convolve(norm_relu(norm, jnp.concatenate(maps, axis=-1)), layer["conv1"]["kernel"])
        if "norm2" in layer:
            bottlenecks.append(None if remat else y)
            inner.append(batch_statistics(y))
            norm = normalization(layer["norm2"], inner[-1], epsilon)
            y = convolve(norm_relu(norm, y), layer["conv2"]["kernel"])
        maps.append(y)
        statistics = statistics.join(batch_statistics(y))
    output = BlockOutput(jnp.concatenate(maps, axis=-1), statistics, inner)
    return output, (layers, maps, statistics, bottlenecks, inner)


def _backward(
    epsilon: float, remat: bool, kept: tuple, gradient: BlockOutput
) -> tuple[list[Layer], jax.Array]:
    layers, maps, statistics, bottlenecks, inner = kept
    maps = list(maps)
    of_maps, of_statistics, of_inner = gradient  # of all maps that are not yet done
    of_layers: list[Layer] = []
    for number in reversed(range(len(layers))):
        layer = layers[number]
        of_layer: Layer = {}
        if remat:  # or XLA would find these maps computed already, and keep them
            maps, of_maps = lax.optimization_barrier((maps, of_maps))
        y = maps.pop()
        start = of_statistics.mean.size - y.shape[-1]
        through = through_statistics(y, statistics.after(start), of_statistics.after(start))
        dy = _add(of_maps[..., start:], through)
        statistics, of_statistics = statistics.prefix(start), of_statistics.prefix(start)
        x = jnp.concatenate(maps, axis=-1)
        norm = normalization(layer["norm1"], statistics, epsilon)
        read = norm_relu(norm, x)
        if "norm2" in layer:
            bottleneck = bottlenecks[number]
            if bottleneck is None:
                bottleneck = convolve(read, layer["conv1"]["kernel"])
            second = normalization(layer["norm2"], inner[number], epsilon)
            of_bottleneck, of_layer["norm2"], of_layer["conv2"], more = _stage_gradient(
                second, bottleneck, norm_relu(second, bottleneck), layer["conv2"], dy
            )
            more = _sum(of_inner[number], more)
            through = through_statistics(bottleneck, inner[number], more)
            dy = (of_bottleneck + through).astype(dy.dtype)
        of_x, of_layer["norm1"], of_layer["conv1"], more = _stage_gradient(
            norm, x, read, layer["conv1"], dy
        )
        of_maps = _add(of_maps[..., :start], of_x)
        of_statistics = _sum(of_statistics, more)
        of_layers.append(of_layer)
    of_x = _add(of_maps, through_statistics(maps[0], statistics, of_statistics))
    return of_layers[::-1], of_x


dense_block.defvjp(_forward, _backward)


def _stage_gradient(
    norm: Normalization, x: jax.Array, read: jax.Array, conv: Layer, dy: jax.Array
) -> tuple[jax.Array, Layer, Layer, Statistics]:
    """Returns the gradients for x, normalization, convolution and the statistics of x."""
    _, gradients = jax.vjp(convolve, read, conv["kernel"])
    of_read, of_kernel = gradients(dy)
    of_x, sums = norm_relu_gradient(norm, x, read, of_read)
    of_norm, of_statistics = parameter_gradients(norm, sums)
    return of_x, of_norm, {"kernel": of_kernel}, of_statistics


def _add(x: jax.Array, more: jax.Array) -> jax.Array:
    return (x.astype(at_least_float32(x.dtype)) + more).astype(x.dtype)


def _sum(one: Statistics, other: Statistics) -> Statistics:
    return jax.tree.map(jnp.add, one, other)
