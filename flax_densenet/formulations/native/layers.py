"""Parameters of dense layers, in the order in which the library takes them.

A stage is a normalization and the convolution behind it: two in a layer with a bottleneck.
"""

from collections.abc import Iterator, Sequence

import jax

from flax_densenet.formulations.block import Layer


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
