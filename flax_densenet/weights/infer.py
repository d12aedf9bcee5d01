"""Infers the network from the names and shapes of its arrays.

Axes: O output channels, I input channels (of a group), H kernel height, W kernel width.
"""

import dataclasses
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

from flax_densenet.errors import InputError
from flax_densenet.network.config import DenseNetConfig
from flax_densenet.weights.layouts import Layout
from flax_densenet.weights.places import Parsed, Place, is_numbered

_OTHER_AXES = {3: "sequences (1-D)", 5: "volumes (3-D)"}
_STEM_KERNELS = {3: "cifar", 7: "imagenet"}
_USUAL_COMPRESSIONS = (1.0, 0.5)
_USUAL_REDUCTION = 16


class Kernel(NamedTuple):
    """A kernel's key, and the length of each of its axes."""

    key: str
    axes: dict[str, int]


Kernels = dict[tuple[str, int, int], Kernel]  # by role, block and layer


def infer_config(parsed: Parsed) -> DenseNetConfig:
    """Returns the network that a set of weights belongs to.

    Whether every array has the right shape is not checked here: `from_arrays` does that.

    Args:
      parsed: The weights.

    Returns:
      The configuration, with the layout's epsilon. Weights show neither the pooling nor an
      activation without parameters: an average and a ReLU are assumed. Without a classifier the
      number of classes is the default, which means nothing.

    Raises:
      InputError: The weights belong to no DenseNet; what does not fit is named.
    """
    layout = parsed.layout
    kernels = _find_kernels(parsed)
    find = partial(_find_kernel, kernels, layout)
    stem_key, stem = find("conv0", 0, 0)
    if stem["H"] not in _STEM_KERNELS:
        raise InputError(
            f"{stem_key} is a kernel of {stem['H']}x{stem['W']} pixels; wanted 3x3 (cifar) or 7x7 "
            "(imagenet); this is no DenseNet that can be converted"
        )
    places = parsed.places.values()
    _check_statistics(parsed)
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
        "in_channels": stem["I"],
        "batch_norm_epsilon": layout.batch_norm_epsilon,
        "batch_norm_momentum": layout.batch_norm_momentum,
    }
    if any(place.role == "classifier" for place in places):
        fields["num_classes"] = find("classifier", 0, 0).axes["O"]
    if bottleneck:
        fields["bottleneck_factor"] = _bottleneck_factor(find("conv1", 1, 1), find("conv2", 1, 1))
    fields |= _options(parsed, kernels, growth_rate)
    config = _with_depth(fields, blocks)
    usual = dataclasses.replace(config, stem_width=None, groups=1)
    is_usual = usual.stem_channels == stem["O"]
    return dataclasses.replace(config, stem_width=None) if is_usual else config


def inferred_from(parsed: Parsed) -> list[str]:
    """Returns the keys of the arrays that `infer_config` draws its conclusions from."""
    return [
        kernel.key
        for (role, block, layer), kernel in _find_kernels(parsed).items()
        if role in ("conv0", "conv", "classifier") or (block, layer) == (1, 1)
    ]


def _check_statistics(parsed: Parsed) -> None:
    """Refuses other normalizations than that by batch, which alone has running statistics."""
    leaves = {place.leaf.flax_name for place in parsed.places.values()}
    if not leaves & {"mean", "var"}:
        what = "weights and biases of normalizations" if "scale" in leaves else "no normalization"
        raise InputError(
            f"it has {what} and no running means and variances; wanted those of batch "
            "normalization: a network with instance, group or layer normalization cannot be "
            "converted"
        )


def _find_kernels(parsed: Parsed) -> Kernels:
    """Returns the kernels of all convolutions and linear layers.

    Raises:
      InputError: A kernel has another number of axes, or one is missing where they are numbered.
    """
    layout, places = parsed.layout, parsed.places
    kernels = {}
    for key, place in places.items():
        if place.leaf.flax_name != "kernel":
            continue
        shape, axes = parsed.shapes[key], place.leaf.axes
        if len(shape) != len(axes):
            kind = _OTHER_AXES.get(len(shape)) if place.role != "classifier" else None
            raise InputError(
                f"{key} has {len(shape)} axes, {shape}; wanted {len(axes)} ({axes}); this is "
                + (f"a network for {kind}, not for images" if kind else "no DenseNet for images")
            )
        kernel = Kernel(key, dict(zip(axes, shape, strict=True)))
        kernels[_identity(key, place, layout)] = kernel
    if not is_numbered(layout):
        return kernels
    norms = {key.split("/")[1] for key, place in places.items() if "norm" in place.role}
    return _with_places(kernels, len(norms))


def _identity(key: str, place: Place, layout: Layout) -> tuple[str, int, int]:
    if not is_numbered(layout) or place.role == "classifier":
        return place.role, place.block, place.layer
    number = "".join(filter(str.isdigit, key.split("/")[1].removeprefix("conv2d")))
    return "conv", 0, int(number or 0)


def _with_places(numbered: Kernels, num_norms: int) -> Kernels:
    """Finds the places of convolutions from their order.

    A 1x1 convolution followed by a 3x3 one is a dense layer; a 1x1 convolution alone is a
    transition. Each but the first follows a normalization. One more normalization is the last layer
    but the classifier, and the imagenet stem has one, too.
    """
    numbers = sorted(number for role, _, number in numbered if role == "conv")
    stem = numbered.get(("conv", 0, 0))
    wanted = num_norms - (stem is not None and stem.axes["H"] == 7)
    for missing in sorted(set(range(max([wanted, *(n + 1 for n in numbers)]))) - set(numbers)):
        key = f"layers/conv2d_{missing}/vars/0".replace("_0/", "/")
        raise InputError(f"{key} is missing; wanted all layers of a DenseNet; get the whole file")
    order = [numbered["conv", 0, number] for number in numbers]
    kernels = {key: kernel for key, kernel in numbered.items() if key[0] == "classifier"}
    if order:
        kernels["conv0", 0, 0] = order[0]
    block, layer, at = 1, 1, 1
    while at < len(order):
        if [k.axes["H"] for k in order[at : at + 2]] == [1, 3]:
            kernels["conv1", block, layer] = order[at]
            kernels["conv2", block, layer] = order[at + 1]
            layer, at = layer + 1, at + 2
        else:
            kernels["conv", block, 0] = order[at]
            block, layer, at = block + 1, 1, at + 1
    return kernels


def _find_kernel(kernels: Kernels, layout: Layout, role: str, block: int, layer: int) -> Kernel:
    """Returns the kernel of a layer, or raises InputError: it is missing."""
    if (role, block, layer) in kernels:
        return kernels[role, block, layer]
    raise InputError(
        f"{_name(layout, role, block, layer)} is missing; wanted all layers of a DenseNet; this "
        "is only part of one"
    )


def _name(layout: Layout, role: str, block: int, layer: int) -> str:
    """Returns the layer's name there, or its place where names are numbers only."""
    if is_numbered(layout) and role != "classifier":
        return f"convolution {role} of block {block}, layer {layer}"
    return layout.names[role].format(
        block=block,
        next_block=block + 1,
        layer=layer,
        layer0=layer - 1,
        collection="params",
    )


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


def _options(parsed: Parsed, kernels: Kernels, growth_rate: int) -> dict[str, Any]:
    """Returns the fields for extensions beyond the paper, as far as shapes show them.

    Raises:
      InputError: The hidden layer of the attention has a width that no reduction gives.
    """
    places = parsed.places
    roles = {place.role for place in places.values()}
    stem, first = (kernels[key].axes for key in (("conv0", 0, 0), ("conv1", 1, 1)))
    inputs, last = stem["O"], first
    if ("conv2", 1, 1) in kernels:
        inputs, last = first["O"], kernels["conv2", 1, 1].axes
    options: dict[str, Any] = {"kernel_size": last["H"]}
    if last["I"] < inputs and inputs % last["I"] == 0:
        options["groups"] = inputs // last["I"]
    norm1 = [
        parsed.shapes[key]
        for key, place in places.items()
        if (place.role, place.block, place.layer) == ("norm1", 1, 1)
    ]
    # A normalization has the width of what it reads: the input of the layer, or the convolution.
    follows = (first["O"],) in norm1 and (first["O"] != stem["O"] or "norm5" not in roles)
    if follows:
        options["order"] = "conv-norm-act"
    if any(role.startswith("prelu") for role in roles):
        options["activation"] = "prelu"
    if ("fc1", 1, 1) in kernels:
        options["attention"] = "se"
        options["attention_reduction"] = _reduction(kernels["fc1", 1, 1], growth_rate)
    return options


def _reduction(fc1: Kernel, growth_rate: int) -> int:
    width = fc1.axes["O"]
    for reduction in (_USUAL_REDUCTION, growth_rate // width):  # the latter is 0 if it is wider
        if reduction and max(1, growth_rate // reduction) == width:
            return reduction
    raise InputError(
        f"{fc1.key} has {width} output channels; wanted the growth rate, {growth_rate}, divided by "
        "an integer and rounded down; this attention cannot be converted"
    )
