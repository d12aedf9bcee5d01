"""From the shapes of a set of weights to the options of their network, as far as they tell.

Axes: O output channels, I input channels (of a group), H kernel height.
"""

from collections.abc import Mapping
from typing import Any

from flax_densenet.conversion.kernels import Kernel, Kernels
from flax_densenet.conversion.parsing import Shape, parse
from flax_densenet.errors import InputError
from flax_densenet.layouts import Layout

_USUAL_REDUCTION = 16


def infer_options(
    shapes: Mapping[str, Shape], layout: Layout, kernels: Kernels, growth_rate: int
) -> dict[str, Any]:
    """Returns fields of the configuration.

    Activations without parameters all have the same weights, as have both poolings.

    Args:
      shapes: {key: shape} under the layout's names.
      layout: The layout.
      kernels: The kernels among them, those of the first convolution and the first layer included.
      growth_rate: Of the network.

    Raises:
      InputError: The hidden layer of the attention has a width that no reduction gives.
    """
    places = parse(shapes, layout).places
    roles = {place.role for place in places.values()}
    stem, first = (kernels[key].axes for key in (("conv0", 0, 0), ("conv1", 1, 1)))
    inputs, last = stem["O"], first
    if ("conv2", 1, 1) in kernels:
        inputs, last = first["O"], kernels["conv2", 1, 1].axes
    options: dict[str, Any] = {"kernel_size": last["H"]}
    if last["I"] < inputs and inputs % last["I"] == 0:
        options["groups"] = inputs // last["I"]
    norm1 = [
        shapes[key]
        for key, place in places.items()
        if (place.role, place.block, place.layer) == ("norm1", 1, 1)
    ]
    # A normalization has the width of what it reads: the input of the layer, or the convolution.
    is_behind = (first["O"],) in norm1 and (first["O"] != stem["O"] or "norm5" not in roles)
    if is_behind:
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
