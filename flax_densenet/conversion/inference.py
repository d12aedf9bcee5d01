"""From the shapes of a set of weights to the configuration of their network.

Axes: O output channels, I input channels, H kernel height.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from flax_densenet.config import DenseNetConfig
from flax_densenet.conversion.kernels import Kernel, find_kernel, find_kernels
from flax_densenet.conversion.option_inference import infer_options
from flax_densenet.conversion.parsing import Shape, is_numbered, parse
from flax_densenet.errors import InputError
from flax_densenet.layouts import Layout

_STEM_KERNELS = {3: "cifar", 7: "imagenet"}
_USUAL_COMPRESSIONS = (1.0, 0.5)


def infer_config(shapes: Mapping[str, Shape], layout: Layout) -> DenseNetConfig:
    """Returns the network that a set of weights belongs to, as far as its shapes tell.

    Whether every array has the right shape is not checked here: `from_arrays` does that.

    Args:
      shapes: {key: shape} under the layout's names, without any common prefix.
      layout: The layout.

    Returns:
      The configuration, with the layout's epsilon. Weights do not tell an activation without
      parameters, which is taken to be a ReLU, and the pooling, which is taken to be an average.

    Raises:
      InputError: The weights are not those of a DenseNet; what does not fit is named.
    """
    kernels = find_kernels(shapes, layout)
    find = partial(find_kernel, kernels, layout)
    stem_key, stem = find("conv0", 0, 0)
    if stem["H"] not in _STEM_KERNELS:
        raise InputError(
            f"{stem_key} is a kernel of {stem['H']}x{stem['W']} pixels; wanted 3x3 (cifar) or 7x7 "
            "(imagenet); this is no DenseNet that can be converted"
        )
    places = parse(shapes, layout).places.values()
    numbered = is_numbered(layout)
    layers = kernels if numbered else [(place.role, place.block, place.layer) for place in places]
    blocks = _block_sizes(layers, find)
    bottleneck = numbered or any(place.role in ("norm2", "conv2") for place in places)
    growth_rate = find("conv2" if bottleneck else "conv1", 1, 1).axes["O"]
    fields: dict[str, Any] = {
        "growth_rate": growth_rate,
        "bottleneck": bottleneck,
        "compression": _compression(find, len(blocks)),
        "stem": _STEM_KERNELS[stem["H"]],
        "stem_width": stem["O"],
        "num_classes": find("classifier", 0, 0).axes["O"],
        "in_channels": stem["I"],
        "batch_norm_epsilon": layout.batch_norm_epsilon,
    }
    if bottleneck:
        fields["bottleneck_factor"] = _bottleneck_factor(find("conv1", 1, 1), find("conv2", 1, 1))
    fields |= infer_options(shapes, layout, kernels, growth_rate)
    config = _with_depth(fields, blocks)
    usual = dataclasses.replace(config, stem_width=None, groups=1)
    is_usual = usual.stem_channels == stem["O"]
    return dataclasses.replace(config, stem_width=None) if is_usual else config


def inferred_from(shapes: Mapping[str, Shape], layout: Layout) -> list[str]:
    """Returns the keys of the arrays that `infer_config` draws its conclusions from.

    Args:
      shapes: {key: shape} under the layout's names.
      layout: The layout.
    """
    return [
        kernel.key
        for (role, block, layer), kernel in find_kernels(shapes, layout).items()
        if role in ("conv0", "conv", "classifier") or (block, layer) == (1, 1)
    ]


def _block_sizes(
    layers: Iterable[tuple[str, int, int]], find: Callable[..., Kernel]
) -> tuple[int, ...]:
    blocks: dict[int, set[int]] = {}
    for _, block, layer in layers:
        if layer:
            blocks.setdefault(block, set()).add(layer)
    last = max(blocks, default=1)
    sizes = [max(blocks.get(block, {1})) for block in range(1, last + 1)]
    for block, size in enumerate(sizes, start=1):
        for layer in range(1, size + 1):
            find("conv1", block, layer)
    return tuple(sizes)


def _compression(find: Callable[..., Kernel], num_blocks: int) -> float:
    transitions = [find("conv", block, 0).axes for block in range(1, num_blocks)]
    pairs = [(transition["I"], transition["O"]) for transition in transitions]
    if not pairs:
        return 1.0
    ratio = pairs[0][1] / pairs[0][0]
    # A ratio in between, such as 5 of 9, is the exact share; the last candidate allows for floor().
    for theta in (*_USUAL_COMPRESSIONS, ratio, round(ratio, 2), (pairs[0][1] + 0.5) / pairs[0][0]):
        if 0 < theta <= 1 and all(max(1, int(theta * m)) == kept for m, kept in pairs):
            return theta
    keys = [find("conv", block, 0).key for block in range(1, num_blocks)]
    listed = ", ".join(f"{key} {k} of {m}" for key, (m, k) in zip(keys, pairs, strict=True))
    raise InputError(
        f"the transitions keep different shares of their feature maps: {listed}; wanted the same "
        "(compression) in each; a net that was pruned after its training cannot be converted"
    )


def _bottleneck_factor(conv1: Kernel, conv2: Kernel) -> int:
    width, growth_rate = conv1.axes["O"], conv2.axes["O"]
    if width % growth_rate:
        raise InputError(
            f"{conv1.key} has {width} output channels and {conv2.key} {growth_rate}; wanted a "
            "multiple of the growth rate; a net that was pruned cannot be converted"
        )
    return width // growth_rate


def _with_depth(fields: dict[str, Any], blocks: tuple[int, ...]) -> DenseNetConfig:
    config = DenseNetConfig(blocks=blocks, **fields)
    if config.stem == "cifar" and len(blocks) == 3 and len(set(blocks)) == 1:
        return DenseNetConfig(depth=config.num_weight_layers, **fields)
    return config
