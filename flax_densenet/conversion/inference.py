"""From the shapes of a set of weights to the configuration of their network.

Axes: O output channels, I input channels, H kernel height.
"""

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from flax_densenet.config import DenseNetConfig
from flax_densenet.conversion.parsing import Place, Shape, is_numbered, parse
from flax_densenet.errors import InputError
from flax_densenet.layouts import Layout

_Axes = dict[str, int]
_Layers = dict[tuple[str, int, int], _Axes]  # of the kernels, by role, block and layer

_STEM_KERNELS = {3: "cifar", 7: "imagenet"}
_USUAL_COMPRESSIONS = (1.0, 0.5)


def infer_config(shapes: Mapping[str, Shape], layout: Layout) -> DenseNetConfig:
    """Returns the network that a set of weights belongs to, as far as its shapes tell.

    Whether every array has the right shape is not checked here: `from_arrays` does that.

    Args:
      shapes: {key: shape} under the layout's names, without any common prefix.
      layout: The layout.

    Returns:
      The configuration, with the layout's epsilon.

    Raises:
      InputError: The weights are not those of a DenseNet; what does not fit is named.
    """
    kernels = _kernels(shapes, layout)
    find = partial(_find, kernels, layout)
    stem = find("conv0", 0, 0)
    if stem["H"] not in _STEM_KERNELS:
        raise InputError(
            f"the first convolution has a kernel of {stem['H']}x{stem['W']} pixels; wanted 3x3 "
            "(cifar) or 7x7 (imagenet); this is no DenseNet that can be converted"
        )
    blocks = _block_sizes(kernels, layout)
    bottleneck = any(role == "conv2" for role, _, _ in kernels)
    growth_rate = find("conv2" if bottleneck else "conv1", 1, 1)["O"]
    fields: dict[str, Any] = {
        "growth_rate": growth_rate,
        "bottleneck": bottleneck,
        "compression": _compression(find, len(blocks)),
        "stem": _STEM_KERNELS[stem["H"]],
        "num_classes": find("classifier", 0, 0)["O"],
        "in_channels": stem["I"],
        "batch_norm_epsilon": layout.batch_norm_epsilon,
    }
    if bottleneck:
        fields["bottleneck_factor"] = _whole_multiple(find("conv1", 1, 1)["O"], growth_rate)
    config = _with_depth(fields, blocks)
    if stem["O"] != config.stem_channels:
        config = dataclasses.replace(config, stem_width=stem["O"])
    return config


def _find(kernels: _Layers, layout: Layout, role: str, block: int, layer: int) -> _Axes:
    if (role, block, layer) in kernels:
        return kernels[role, block, layer]
    raise InputError(
        f"{_name(layout, role, block, layer)} is missing; wanted all layers of a DenseNet; get the "
        "whole file"
    )


def _name(layout: Layout, role: str, block: int, layer: int) -> str:
    """Returns the layer's name there, or its place where names are numbers only."""
    if is_numbered(layout):
        return f"convolution {role} of block {block}, layer {layer}"
    return layout.names[role].format(
        block=block,
        next_block=block + 1,
        layer=layer,
        layer0=layer - 1,
        collection="params",
    )


def _kernels(shapes: Mapping[str, Shape], layout: Layout) -> _Layers:
    places = parse(shapes, layout).places
    kernels = {}
    for key, place in places.items():
        if place.leaf.flax_name != "kernel":
            continue
        shape, axes = shapes[key], place.leaf.axes
        if len(shape) != len(axes):
            raise InputError(
                f"{key} has {len(shape)} axes, {shape}; wanted {len(axes)} ({axes}); this is no "
                "DenseNet for images"
            )
        kernels[_identity(key, place, layout)] = dict(zip(axes, shape, strict=True))
    return _with_places(kernels) if is_numbered(layout) else kernels


def _identity(key: str, place: Place, layout: Layout) -> tuple[str, int, int]:
    if not is_numbered(layout) or place.role == "classifier":
        return place.role, place.block, place.layer
    number = "".join(filter(str.isdigit, key.split("/")[1].removeprefix("conv2d")))
    return "conv", 0, int(number or 0)


def _with_places(numbered: _Layers) -> _Layers:
    """Finds the places of convolutions of which only the order is known.

    A 1x1 convolution with a 3x3 one behind it is a dense layer, one alone is a transition.
    """
    order = [axes for (role, _, _), axes in sorted(numbered.items()) if role == "conv"]
    kernels: _Layers = {key: axes for key, axes in numbered.items() if key[0] == "classifier"}
    if order:
        kernels["conv0", 0, 0] = order[0]
    block, layer, at = 1, 1, 1
    while at < len(order):
        if at + 1 < len(order) and (order[at]["H"], order[at + 1]["H"]) == (1, 3):
            kernels["conv1", block, layer] = order[at]
            kernels["conv2", block, layer] = order[at + 1]
            layer, at = layer + 1, at + 2
        else:
            kernels["conv", block, 0] = order[at]
            block, layer, at = block + 1, 1, at + 1
    return kernels


def _block_sizes(kernels: _Layers, layout: Layout) -> tuple[int, ...]:
    layers: dict[int, set[int]] = {}
    for role, block, layer in kernels:
        if role == "conv1":
            layers.setdefault(block, set()).add(layer)
    for block in range(1, max(layers, default=0) + 1):
        numbers = layers.get(block, set())
        for missing in sorted(set(range(1, max(numbers, default=1) + 1)) - numbers):
            _find(kernels, layout, "conv1", block, missing)
    if not layers:
        _find(kernels, layout, "conv1", 1, 1)
    return tuple(len(layers[block]) for block in sorted(layers))


def _compression(find: Callable[..., _Axes], num_blocks: int) -> float:
    transitions = [find("conv", block, 0) for block in range(1, num_blocks)]
    pairs = [(transition["I"], transition["O"]) for transition in transitions]
    if not pairs:
        return 1.0
    ratio = pairs[0][1] / pairs[0][0]
    # A ratio in between, such as 5 of 9, is the exact share; the last candidate allows for floor().
    for theta in (*_USUAL_COMPRESSIONS, ratio, round(ratio, 2), (pairs[0][1] + 0.5) / pairs[0][0]):
        if 0 < theta <= 1 and all(max(1, int(theta * m)) == kept for m, kept in pairs):
            return theta
    listed = ", ".join(f"{kept} of {m}" for m, kept in pairs)
    raise InputError(
        f"the transitions keep {listed} feature maps; wanted the same share (compression) in each; "
        "a net that was pruned after its training cannot be converted"
    )


def _whole_multiple(channels: int, growth_rate: int) -> int:
    if channels % growth_rate:
        raise InputError(
            f"the first 1x1 convolution has {channels} output channels; wanted a multiple of the "
            f"growth rate {growth_rate}; a net that was pruned cannot be converted"
        )
    return channels // growth_rate


def _with_depth(fields: dict[str, Any], blocks: tuple[int, ...]) -> DenseNetConfig:
    config = DenseNetConfig(blocks=blocks, **fields)
    if config.stem == "cifar" and len(blocks) == 3 and len(set(blocks)) == 1:
        return DenseNetConfig(depth=config.num_weight_layers, **fields)
    return config
