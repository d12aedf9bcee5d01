"""Finds the place of each array in a DenseNet by its name, without knowing the network."""

import re
from collections.abc import Mapping
from typing import NamedTuple

from flax_densenet.network.layers import Kind
from flax_densenet.weights.layouts import Layout, Leaf

Shape = tuple[int, ...]

_KINDS: dict[str, Kind] = {
    **dict.fromkeys(("conv0", "conv1", "conv2", "conv"), "conv"),
    **dict.fromkeys(("norm0", "norm1", "norm2", "norm", "norm5"), "norm"),
    **dict.fromkeys(("prelu0", "prelu1", "prelu2", "prelu", "prelu5"), "prelu"),
    **dict.fromkeys(("fc1", "fc2", "classifier"), "linear"),
}
_NUMBERED = ("conv_number", "norm_number")


class Place(NamedTuple):
    """The layer that an array belongs to, and which of its arrays it is.

    Attributes:
      role: Last part of our path of the layer, such as "norm1".
      block: Number of its block or transition, from 1; 0 outside.
      layer: Number of its dense layer, from 1; 0 outside.
      leaf: The array.
    """

    role: str
    block: int
    layer: int
    leaf: Leaf


class Parsed(NamedTuple):
    """A set of weights, and what its names say.

    Attributes:
      layout: The layout that its names are read with.
      shapes: {key: shape}, without any common prefix.
      places: {key: where it belongs}.
      unknown: Keys that the layout does not have; counters are left out.
    """

    layout: Layout
    shapes: dict[str, Shape]
    places: dict[str, Place]
    unknown: list[str]


def parse(shapes: Mapping[str, Shape], layout: Layout) -> Parsed:
    """Finds the place of each array by its name.

    Args:
      shapes: {key: shape}, without any common prefix.
      layout: The layout to read the names with.
    """
    patterns = _patterns(layout)
    places: dict[str, Place] = {}
    unknown = []
    for key in shapes:
        if layout.counter and key.endswith(f"{layout.separator}{layout.counter}"):
            continue
        for pattern, role, leaf in patterns:
            if found := pattern.fullmatch(key):
                numbers = {
                    name: int(digits) for name, digits in found.groupdict().items() if digits
                }
                block = numbers.get("block") or numbers.get("next_block", 1) - 1
                layer = numbers.get("layer") or numbers.get("layer0", -1) + 1
                places[key] = Place(role, block, layer, leaf)
                break
        else:
            unknown.append(key)
    return Parsed(layout, dict(shapes), places, unknown)


def is_numbered(layout: Layout) -> bool:
    """Returns whether a layout numbers layers through the whole net; names then show no place."""
    return any(f"{{{name}}}" in layout.names["conv0"] for name in _NUMBERED)


def _patterns(layout: Layout) -> list[tuple[re.Pattern[str], str, Leaf]]:
    rows = []
    for role, name in layout.names.items():
        for leaf in layout.leaves[_KINDS[role]]:
            text = _as_pattern(name.replace("{collection}", leaf.collection))
            pattern = re.compile(text + re.escape(f"{layout.separator}{leaf.name}"))
            rows.append((pattern, role, leaf))
    return rows


def _as_pattern(name: str) -> str:
    """Returns the pattern of a name such as "block{block}.x"; equal fields are equal numbers."""
    seen: set[str] = set()

    def group(match: re.Match[str]) -> str:
        field = match[1]
        if field in seen:
            return f"(?P={field})"
        seen.add(field)
        return r"(?:_[1-9][0-9]*)?" if field in _NUMBERED else f"(?P<{field}>0|[1-9][0-9]*)"

    parts = re.split(r"(\{\w+\})", name)
    return "".join(
        re.sub(r"\{(\w+)\}", group, part) if part.startswith("{") else re.escape(part)
        for part in parts
    )
