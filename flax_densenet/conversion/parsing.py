"""From the names in a set of weights to the layers that they belong to.

It reads the table of a layout backwards, without knowing the network.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

from flax_densenet.layers import Kind
from flax_densenet.layouts import Layout, Leaf

Shape = tuple[int, ...]

# A head is often put into a Sequential, which numbers it.
_HEAD = r"(?:\.\d+)?"
_KINDS: dict[str, Kind] = {
    **dict.fromkeys(("conv0", "conv1", "conv2", "conv"), "conv"),
    **dict.fromkeys(("norm0", "norm1", "norm2", "norm", "norm5"), "norm"),
    **dict.fromkeys(("prelu0", "prelu1", "prelu2", "prelu", "prelu5"), "prelu"),
    **dict.fromkeys(("fc1", "fc2", "classifier"), "linear"),
}
_NUMBERED = ("conv_number", "norm_number")


class Place(NamedTuple):
    """Where an array belongs.

    Attributes:
      role: Last part of the layer's path with us, such as "norm1".
      block: Number of its block or transition, from 1; 0 outside.
      layer: Number of its dense layer, from 1; 0 outside.
      leaf: Which of the layer's arrays.
    """

    role: str
    block: int
    layer: int
    leaf: Leaf


class Parsed(NamedTuple):
    """A set of weights, as far as the names tell.

    Attributes:
      places: {key: where it belongs}.
      head_suffix: What stands behind the classifier's name, such as ".0".
      unknown: Keys that the layout does not have, counters left out.
    """

    places: dict[str, Place]
    head_suffix: str
    unknown: list[str]


def parse(shapes: Mapping[str, Shape], layout: Layout) -> Parsed:
    """Finds out where each array belongs.

    Args:
      shapes: {key: shape} without any common prefix.
      layout: The layout to read.
    """
    patterns = _patterns(layout)
    places, unknown, suffix = {}, [], ""
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
                if role == "classifier":
                    suffix = key.removesuffix(f"{layout.separator}{leaf.name}").removeprefix(
                        layout.names["classifier"].format(collection=leaf.collection)
                    )
                break
        else:
            unknown.append(key)
    return Parsed(places, suffix, unknown)


def is_numbered(layout: Layout) -> bool:
    """Tells whether the layout numbers layers through the whole net, so that names say no place."""
    return any(f"{{{name}}}" in layout.names["conv0"] for name in _NUMBERED)


def _patterns(layout: Layout) -> list[tuple[re.Pattern[str], str, Leaf]]:
    rows = []
    for role, name in layout.names.items():
        for leaf in layout.leaves[_KINDS[role]]:
            head = _HEAD if role == "classifier" and layout.separator == "." else ""
            text = _as_pattern(name.replace("{collection}", leaf.collection)) + head
            pattern = re.compile(text + re.escape(f"{layout.separator}{leaf.name}"))
            rows.append((pattern, role, leaf))
    return rows


def _as_pattern(name: str) -> str:
    """Turns "block{block}.x" into a pattern; a number that comes twice must be the same."""
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
