"""The kernels in a set of weights, by their place in the network.

Axes: O output channels, I input channels (of a group), H kernel height.
"""

from collections.abc import Mapping
from typing import NamedTuple

from flax_densenet.conversion.parsing import Place, Shape, is_numbered, parse
from flax_densenet.errors import InputError
from flax_densenet.layouts import Layout


class Kernel(NamedTuple):
    """A kernel's key, and the length of each of its axes."""

    key: str
    axes: dict[str, int]


Kernels = dict[tuple[str, int, int], Kernel]  # by role, block and layer


def find_kernel(kernels: Kernels, layout: Layout, role: str, block: int, layer: int) -> Kernel:
    """Returns a layer's kernel.

    Args:
      kernels: What `find_kernels` has found.
      layout: The layout.
      role: Last part of the layer's path with us, such as "conv1".
      block: Number of its block or transition, from 1; 0 outside.
      layer: Number of its dense layer, from 1; 0 outside.

    Raises:
      InputError: It is missing.
    """
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


def find_kernels(shapes: Mapping[str, Shape], layout: Layout) -> Kernels:
    """Returns all kernels of convolutions and linear layers, by role, block and layer.

    Args:
      shapes: {key: shape} under the layout's names.
      layout: The layout.

    Raises:
      InputError: A kernel has another number of axes, or one is missing where they are numbered.
    """
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
    """Finds the places of convolutions of which only the order is known.

    A 1x1 convolution with a 3x3 one behind it is a dense layer, one alone is a transition. There is
    a normalization in front of each but the first, one behind all, and one in the imagenet stem.
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
