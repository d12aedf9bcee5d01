"""Finds the classifier of a network, which files keep under many names or lack."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from flax_densenet.errors import listed
from flax_densenet.network.layers import ArrayPath
from flax_densenet.weights.places import Shape
from flax_densenet.weights.recognize import WeightSet
from flax_densenet.weights.table import Row

# Last words of the names that PyTorch gives the arrays of layers; losses and metrics have none.
_OF_LAYERS = ("bias", "running_mean", "running_var")
_WEIGHT = "weight"  # of a loss if there is one for each class

CLASSIFIER = ("classifier",)  # its path in the network

Arrays = Mapping[ArrayPath, np.ndarray]


class Head(NamedTuple):
    """What a file holds of a classifier under other names than the layout's.

    Attributes:
      found: Shapes of what was read as the classifier, or stands in its place, by path.
      reason: Why that was not read, if its names and shapes do not say so.
    """

    found: Mapping[ArrayPath, Shape] = MappingProxyType({})
    reason: str = ""

    @property
    def text(self) -> str:
        """What was found, for messages."""
        return listed([f"{'/'.join(path)} {list(shape)}" for path, shape in self.found.items()])


def find_head(chosen: WeightSet, arrays: Arrays) -> tuple[WeightSet, Head]:
    """Finds the classifier of a set of weights, under whatever name.

    Under another name than the layout's it is read if it is a linear layer of the right width, and
    the only layer beside the network. Layers without arrays, such as a sigmoid, are in no file.

    Args:
      chosen: The set.
      arrays: Everything in the file that may belong to it, by path.

    Returns:
      The set, with the classifier under the layout's names or without any; and what was found.
    """
    layout = chosen.parsed.layout
    if layout.separator != ".":  # only PyTorch's files hold parts of networks, and other heads
        return chosen, Head()
    places = chosen.parsed.places
    own = {chosen.paths[key] for key, place in places.items() if place.role == "classifier"}
    width = _width(chosen)
    if not chosen.is_part and _linear_layers({path: arrays[path] for path in own}, width):
        return chosen, Head()
    beside = _nearest_beside(chosen, arrays)
    kept = {key: path for key, path in chosen.paths.items() if path not in beside}
    head = Head({path: array.shape for path, array in beside.items()})
    for module, classes in _linear_layers(beside, width).items():
        leaves = (f"{module}.weight", f"{module}.bias")
        mine = [path for path in beside if path[-1] in leaves]
        if any(may_be_a_layer(p[-1], beside[p], classes) for p in beside if p not in mine):
            continue
        if chosen.is_part:
            head = head._replace(
                reason="the network is not where its own software keeps it, but a part of another "
                "one, and a file does not say what is between it and the classifier (TIAToolbox "
                "has no ReLU there)"
            )
            break
        name = layout.names["classifier"]
        added = {f"{name}{path[-1].removeprefix(module)}": path for path in mine}
        return chosen.with_paths(kept | added, arrays), Head({p: arrays[p].shape for p in mine})
    return chosen.with_paths(kept, arrays), head


def may_be_a_layer(name: str, array: np.ndarray, classes: Shape | None) -> bool:
    """Returns whether an array could belong to a layer, and not to a loss or a metric.

    Args:
      name: Its name.
      array: The array.
      classes: (number of classes,), if that is known.
    """
    leaf = name.rpartition(".")[2]
    return leaf in _OF_LAYERS or (leaf == _WEIGHT and array.shape != classes)


def _width(chosen: WeightSet) -> int | None:
    """Returns how many maps the classifier reads, if a normalization before it says so."""
    shapes = chosen.parsed.shapes
    widths = {shapes[k] for k, place in chosen.parsed.places.items() if place.role == "norm5"}
    return next(iter(widths))[0] if len(widths) == 1 else None


def _linear_layers(arrays: Arrays, width: int | None) -> dict[str, Shape]:
    """Returns {name of a module: (classes,)} of the linear layers that could be the classifier."""
    found: dict[str, Shape] = {}
    shapes = {path[-1]: array.shape for path, array in arrays.items()}
    for name, shape in shapes.items():
        module, _, leaf = name.rpartition(".")
        if leaf == _WEIGHT and len(shape) == 2 and width in (None, shape[1]):
            if shapes.get(f"{module}.bias") == shape[:1]:
                found[module] = shape[:1]
    return found


def _nearest_beside(chosen: WeightSet, arrays: Arrays) -> dict[ArrayPath, np.ndarray]:
    """Returns the layers beside a network, in the smallest module around it that holds any."""
    names = {path: key for key, path in chosen.paths.items()}
    group = next(iter(names))[:-1]
    prefix = chosen.where.removeprefix("/".join(group)).removeprefix(": ")
    while True:
        beside = {
            path: array
            for path, array in arrays.items()
            if path[:-1] == group
            and path[-1].startswith(prefix)
            and may_be_a_layer(path[-1], array, None)
            and not (path in names and chosen.is_inside(names[path]))
        }
        if beside or not prefix:
            return beside
        prefix = prefix.removesuffix(".").rpartition(".")[0]
        prefix += "." if prefix else ""


def describe_missing_head(rows: Sequence[Row], head: Head) -> str:
    """Returns what a file has in the place of a classifier, and what it should have.

    Args:
      rows: The network in the layout of the file.
      head: What was found.
    """
    wanted = " and ".join(
        f"{row.key} [{', '.join(_length(row, axis) for axis in row.leaf.axes)}]"
        for row in rows
        if row.layer.path == CLASSIFIER
    )
    found = head.text or "no layer beside the others"
    reason = f"; {head.reason}" if head.reason else ""
    return f"found {found}; wanted {wanted}{reason}"


def _length(row: Row, axis: str) -> str:
    return "classes" if axis == "O" else str(row.layer.axes[axis])


def warn_of_head(chosen: WeightSet, head: Head) -> list[str]:
    """Returns what a user should know of a classifier under another name, in sentences."""
    if not head.found:
        return []
    if not chosen.has_head:
        return [f"the file's own classifier is not taken: {head.text}"]
    return [
        f"the classifier is read from {head.text}; what has no arrays, such as a dropout or a "
        "sigmoid around it, is in no file: the network computes ReLU, mean and this layer"
    ]
