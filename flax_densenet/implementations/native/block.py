"""The compiled dense block, in training and in evaluation.

Axes: G chunks, C channels before the block, D after it, P pixels of a chunk.

A stage is a normalization and the convolution behind it: two in a layer with a bottleneck.
"""

from collections.abc import Iterator, Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from flax_densenet.implementations.native.calls import call
from flax_densenet.implementations.statistics import Statistics
from flax_densenet.implementations.walk import BlockOptions, BlockOutput, Layer


def stages(layers: Sequence[Layer]) -> list[tuple[jax.Array, jax.Array, jax.Array]]:
    """Returns scale, bias and kernel of each stage."""
    return [
        (layer[norm]["scale"], layer[norm]["bias"], layer[norm.replace("norm", "conv")]["kernel"])
        for layer in layers
        for norm in norms(layer)
    ]


def named(layer: Layer, of_stages: Iterator[tuple[jax.Array, ...]]) -> Layer:
    """Returns the gradients of a layer's stages under the names of its parameters."""
    named: Layer = {}
    for norm in norms(layer):
        scale, bias, kernel = next(of_stages)
        named[norm] = {"scale": scale, "bias": bias}
        named[norm.replace("norm", "conv")] = {"kernel": kernel}
    return named


def norms(layer: Layer) -> list[str]:
    """Returns the names of a layer's normalizations, in forward order."""
    return [name for name in ("norm1", "norm2") if name in layer]


def growth_rate(layers: Sequence[Layer]) -> int:
    """Returns how many maps each layer adds (k)."""
    width: int = stages(layers)[-1][2].shape[3]
    return width


def bottleneck_width(layers: Sequence[Layer]) -> int:
    """Returns how many maps a bottleneck has; 0: there are none."""
    return layers[0]["conv1"]["kernel"].shape[3] if "norm2" in layers[0] else 0


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def dense_block(
    options: BlockOptions, layers: Sequence[Layer], x: Float[Array, "G C P"]
) -> BlockOutput:
    """Computes a dense block on the statistics of the batch.

    Args:
      options: What is fixed.
      layers: Parameters of each layer under their names in the network.
      x: [G, C, P].
    """
    return _forward(options, layers, x)[0]


def _forward(
    options: BlockOptions, layers: Sequence[Layer], x: jax.Array
) -> tuple[BlockOutput, tuple]:
    chunks, channels, pixels = x.shape
    joined, num_layers = channels + len(layers) * growth_rate(layers), len(layers)
    width = bottleneck_width(layers)
    vectors = [jax.ShapeDtypeStruct((joined,), x.dtype)] * 2
    inner_vectors = [jax.ShapeDtypeStruct((num_layers, width), x.dtype)] * 2
    kept = (1 if options.remat else num_layers, chunks, width, pixels)
    features, mean, var, inner_mean, inner_var, bottlenecks = call(
        "train",
        (
            jax.ShapeDtypeStruct((chunks, joined, pixels), x.dtype),
            *vectors,
            *inner_vectors,
            jax.ShapeDtypeStruct(kept, x.dtype),
        ),
        x,
        *(array for stage in stages(layers) for array in stage),
        attributes=_attributes(options),
    )
    inner = [Statistics(*pair) for pair in zip(inner_mean, inner_var, strict=True)] if width else []
    output = BlockOutput(features, Statistics(mean, var), inner)
    if options.remat:
        bottlenecks = jnp.zeros((0, *kept[1:]), x.dtype)
    return output, (layers, features, mean, var, inner_mean, inner_var, bottlenecks)


def _backward(
    options: BlockOptions, kept: tuple, gradient: BlockOutput
) -> tuple[list[Layer], jax.Array]:
    layers, features, mean, var, inner_mean, inner_var, bottlenecks = kept
    of_inner = [jnp.zeros_like(inner_mean)] * 2
    if gradient.inner:
        of_inner = [jnp.stack(vectors) for vectors in zip(*gradient.inner, strict=True)]
    in_stages = stages(layers)
    chunks, joined, pixels = features.shape
    channels = joined - len(layers) * growth_rate(layers)
    width, dtype = inner_mean.shape[1], features.dtype
    bottleneck = jax.ShapeDtypeStruct((chunks, width, pixels), dtype)
    again = jax.ShapeDtypeStruct((chunks if options.remat else 0, width, pixels), dtype)
    of_x, _, _, _, *of_arrays = call(
        "gradient",
        (
            jax.ShapeDtypeStruct((chunks, channels, pixels), dtype),
            jax.ShapeDtypeStruct(features.shape, dtype),
            again,
            bottleneck,
            *(jax.ShapeDtypeStruct(array.shape, dtype) for stage in in_stages for array in stage),
        ),
        features,
        mean,
        var,
        inner_mean,
        inner_var,
        bottlenecks,
        gradient.features,
        *gradient.statistics,
        *of_inner,
        *(array for stage in in_stages for array in stage),
        aliases={6: 1},
        attributes=_attributes(options),
    )
    of_stages = iter(zip(*[iter(of_arrays)] * 3, strict=True))
    return [named(layer, of_stages) for layer in layers], of_x


dense_block.defvjp(_forward, _backward)


def _attributes(options: BlockOptions) -> dict[str, bool | int | float]:
    return {
        "height": options.height,
        "width": options.width,
        "epsilon": options.epsilon,
        "keeps": not options.remat,
    }
