"""Calls of the compiled dense block: in training with its gradient, and in evaluation.

Axes: G chunks, C channels before the block, D after it, P pixels of a chunk.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from flax_densenet.formulations.block import BlockOptions, BlockOutput, Layer
from flax_densenet.formulations.native.library import register
from flax_densenet.formulations.statistics import Statistics


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


def evaluate_block(
    options: BlockOptions, layers: Sequence[Layer], running: Sequence[Layer], x: jax.Array
) -> Float[Array, "G D P"]:
    """Computes a dense block on running statistics.

    Args:
      options: What is fixed.
      layers: Parameters of each layer under their names in the network.
      running: Its running statistics, likewise.
      x: [G, C, P].
    """
    chunks, channels, pixels = x.shape
    stages = [
        (*stage, statistics[name]["mean"], statistics[name]["var"])
        for layer, statistics in zip(layers, running, strict=True)
        for name, stage in zip(_norms(layer), _stages([layer]), strict=True)
    ]
    joined = channels + len(layers) * _growth_rate(layers)
    return _call(
        "evaluate",
        options,
        jax.ShapeDtypeStruct((chunks, joined, pixels), x.dtype),
        x,
        *(array for stage in stages for array in stage),
        stages_per_layer=np.int64(len(_norms(layers[0]))),
    )


def _forward(
    options: BlockOptions, layers: Sequence[Layer], x: jax.Array
) -> tuple[BlockOutput, tuple]:
    chunks, channels, pixels = x.shape
    joined, num_layers = channels + len(layers) * _growth_rate(layers), len(layers)
    width = _bottleneck_width(layers)
    vectors = [jax.ShapeDtypeStruct((joined,), x.dtype)] * 2
    inner_vectors = [jax.ShapeDtypeStruct((num_layers, width), x.dtype)] * 2
    kept = (1 if options.remat else num_layers, chunks, width, pixels)
    features, mean, var, inner_mean, inner_var, bottlenecks = _call(
        "train",
        options,
        (
            jax.ShapeDtypeStruct((chunks, joined, pixels), x.dtype),
            *vectors,
            *inner_vectors,
            jax.ShapeDtypeStruct(kept, x.dtype),
        ),
        x,
        *(array for stage in _stages(layers) for array in stage),
        keeps=not options.remat,
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
    stages = _stages(layers)
    chunks, joined, pixels = features.shape
    channels = joined - len(layers) * _growth_rate(layers)
    width, dtype = inner_mean.shape[1], features.dtype
    bottleneck = jax.ShapeDtypeStruct((chunks, width, pixels), dtype)
    again = jax.ShapeDtypeStruct((chunks if options.remat else 0, width, pixels), dtype)
    of_x, _, _, _, *of_arrays = _call(
        "gradient",
        options,
        (
            jax.ShapeDtypeStruct((chunks, channels, pixels), dtype),
            jax.ShapeDtypeStruct(features.shape, dtype),
            again,
            bottleneck,
            *(jax.ShapeDtypeStruct(array.shape, dtype) for stage in stages for array in stage),
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
        *(array for stage in stages for array in stage),
        aliases={6: 1},
        keeps=not options.remat,
    )
    of_stages = iter(zip(*[iter(of_arrays)] * 3, strict=True))
    return [_named(layer, of_stages) for layer in layers], of_x


dense_block.defvjp(_forward, _backward)


def _call(
    name: str,
    options: BlockOptions,
    results: Any,
    *arrays: jax.Array,
    aliases: dict[int, int] | None = None,
    **attributes: Any,
) -> Any:
    """Calls a function of the library for the type of the first array."""
    dtype = arrays[0].dtype
    call = jax.ffi.ffi_call(
        register(name, dtype.name),
        results,
        input_output_aliases=aliases,
        vmap_method="sequential",
    )
    return call(
        *(array.astype(dtype) for array in arrays),
        height=np.int64(options.height),
        width=np.int64(options.width),
        epsilon=np.float64(options.epsilon),
        **attributes,
    )


def _stages(layers: Sequence[Layer]) -> list[tuple[jax.Array, jax.Array, jax.Array]]:
    """Returns scale, bias and kernel of each stage."""
    return [
        (layer[norm]["scale"], layer[norm]["bias"], layer[norm.replace("norm", "conv")]["kernel"])
        for layer in layers
        for norm in _norms(layer)
    ]


def _named(layer: Layer, of_stages: Any) -> Layer:
    """Returns the gradients of a layer's stages under the names of its parameters."""
    named: Layer = {}
    for norm in _norms(layer):
        scale, bias, kernel = next(of_stages)
        named[norm] = {"scale": scale, "bias": bias}
        named[norm.replace("norm", "conv")] = {"kernel": kernel}
    return named


def _norms(layer: Layer) -> list[str]:
    return [name for name in ("norm1", "norm2") if name in layer]


def _growth_rate(layers: Sequence[Layer]) -> int:
    return _stages(layers)[-1][2].shape[3]


def _bottleneck_width(layers: Sequence[Layer]) -> int:
    return layers[0]["conv1"]["kernel"].shape[3] if "norm2" in layers[0] else 0
