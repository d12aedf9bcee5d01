"""Compiled dense blocks in training, with their gradients.

A stage is a normalization and the convolution after it. A layer with a bottleneck has two.

Axes: G chunks, C channels before the block, D after it, P pixels of a chunk.
"""

from collections.abc import Iterator, Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from flax_densenet.implementations.native.calls import call
from flax_densenet.implementations.statistics import Statistics
from flax_densenet.implementations.walk import BlockOutput, BlockSettings, Layer


def stages(layers: Sequence[Layer]) -> list[tuple[jax.Array, jax.Array, jax.Array]]:
    """Returns scale, bias and kernel of each stage."""
    return [
        (layer[norm]["scale"], layer[norm]["bias"], layer[norm.replace("norm", "conv")]["kernel"])
        for layer in layers
        for norm in norms(layer)
    ]


def named(layer: Layer, grad_stages: Iterator[tuple[jax.Array, ...]]) -> Layer:
    """Returns the gradients of a layer's stages under the names of its parameters."""
    named: Layer = {}
    for norm in norms(layer):
        scale, bias, kernel = next(grad_stages)
        named[norm] = {"scale": scale, "bias": bias}
        named[norm.replace("norm", "conv")] = {"kernel": kernel}
    return named


def norms(layer: Layer) -> list[str]:
    """Returns the names of a layer's normalizations, in forward order."""
    return [name for name in ("norm1", "norm2") if name in layer]


def growth_rate(layers: Sequence[Layer]) -> int:
    """Returns the number of maps that each layer adds (k)."""
    width: int = stages(layers)[-1][2].shape[3]
    return width


def bottleneck_width(layers: Sequence[Layer]) -> int:
    """Returns the number of maps of a bottleneck, or 0 without bottlenecks."""
    return layers[0]["conv1"]["kernel"].shape[3] if "norm2" in layers[0] else 0


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def dense_block(
    settings: BlockSettings, layers: Sequence[Layer], x: Float[Array, "G C P"]
) -> BlockOutput:
    """Computes a dense block on the statistics of the batch.

    Args:
      settings: Constants of the compiled program.
      layers: Parameters of each layer under their names in the network.
      x: Maps before the block [G, C, P].

    Returns:
      The maps after the block [G, D, P] with their statistics, and those of the bottlenecks.
    """
    return _forward(settings, layers, x)[0]


def _forward(
    settings: BlockSettings, layers: Sequence[Layer], x: jax.Array
) -> tuple[BlockOutput, tuple[Sequence[Layer], dict[str, jax.Array]]]:
    chunks, channels, pixels = x.shape
    num_layers, inner = len(layers), bottleneck_width(layers)
    joined = channels + num_layers * growth_rate(layers)
    kept = 1 if settings.remat else num_layers

    def shape(*sizes: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(sizes, x.dtype)

    computed, _ = call(
        "dense_block_forward",
        {"x": x},
        _arrays(layers),
        results={
            "features": shape(chunks, joined, pixels),
            "mean": shape(joined),
            "var": shape(joined),
            "inner_mean": shape(num_layers, inner),
            "inner_var": shape(num_layers, inner),
            "bottlenecks": shape(kept, chunks, inner, pixels),
        },
        attributes=_attributes(settings),
    )
    statistics = Statistics(computed["mean"], computed["var"])
    pairs = zip(computed["inner_mean"], computed["inner_var"], strict=True) if inner else ()
    output = BlockOutput(computed["features"], statistics, [Statistics(*pair) for pair in pairs])
    if settings.remat:
        computed["bottlenecks"] = jnp.zeros((0, chunks, inner, pixels), x.dtype)
    return output, (layers, computed)


def _backward(
    settings: BlockSettings,
    residuals: tuple[Sequence[Layer], dict[str, jax.Array]],
    gradient: BlockOutput,
) -> tuple[list[Layer], jax.Array]:
    layers, computed = residuals
    chunks, joined, pixels = computed["features"].shape
    channels, inner = joined - len(layers) * growth_rate(layers), bottleneck_width(layers)
    grad_inner = Statistics(*[jnp.zeros_like(computed["inner_mean"])] * 2)
    if gradient.inner:
        grad_inner = Statistics(*(jnp.stack(each) for each in zip(*gradient.inner, strict=True)))

    def shape(*sizes: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(sizes, computed["features"].dtype)

    results, grad_arrays = call(
        "dense_block_backward",
        {
            **computed,
            "grad_features": gradient.features,
            "grad_mean": gradient.statistics.mean,
            "grad_var": gradient.statistics.var,
            "grad_inner_mean": grad_inner.mean,
            "grad_inner_var": grad_inner.var,
        },
        _arrays(layers),
        results={
            "grad_x": shape(chunks, channels, pixels),
            "grad_maps": shape(chunks, joined, pixels),  # the other three are scratch memory
            "recomputed": shape(chunks if settings.remat else 0, inner, pixels),
            "grad_bottleneck": shape(chunks, inner, pixels),
        },
        result_pack=[shape(*array.shape) for array in _arrays(layers)],
        aliases={"grad_maps": "grad_features"},
        attributes=_attributes(settings),
    )
    grad_stages = iter(zip(*[iter(grad_arrays)] * 3, strict=True))
    return [named(layer, grad_stages) for layer in layers], results["grad_x"]


dense_block.defvjp(_forward, _backward)


def _arrays(layers: Sequence[Layer]) -> list[jax.Array]:
    """Returns the parameters of all stages in the order of the C++ `PackLayout`."""
    return [array for stage in stages(layers) for array in stage]


def _attributes(settings: BlockSettings) -> dict[str, bool | int | float]:
    return {
        "height": settings.height,
        "width": settings.width,
        "epsilon": settings.epsilon,
        "keep_bottlenecks": not settings.remat,
    }
