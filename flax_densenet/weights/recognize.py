"""Finds sets of DenseNet weights in a file and the layout of each.

It reads the table of a layout backwards, without knowing the network.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from flax_densenet.network.layers import ArrayPath, Kind
from flax_densenet.weights.layouts import LAYOUTS, Layout, Leaf

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
      unknown: ArrayPath that the layout does not have, counters left out.
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


Arrays = Mapping[ArrayPath, np.ndarray]

_ANCHORS = ("conv0", "norm5", "classifier")  # each tells what stands in front of the names
_DENSE_ROLES = {"conv1", "norm1", "conv"}  # without one of these it is only part of a network


class WeightSet(NamedTuple):
    """One network's weights in a file.

    Attributes:
      where: Its place in the file, such as "state_dict: module."; "" is the whole file.
      layout: Key of `LAYOUTS`.
      arrays: Its arrays under the layout's names; a classifier in a Sequential loses its number.
      paths: Their paths in the file.
      unknown: Names in it that the layout does not have.
    """

    where: str
    layout: str
    arrays: dict[str, np.ndarray]
    paths: dict[str, ArrayPath]
    unknown: list[str]


def find_weight_sets(arrays: Arrays) -> list[WeightSet]:
    """Returns every set of weights that could be a DenseNet's, in the order of the file.

    Args:
      arrays: Everything in the file, by path.
    """
    found: dict[tuple[ArrayPath, str], WeightSet] = {}
    for name, layout in LAYOUTS.items():
        for group, members in _groups(arrays, layout).items():
            for prefix in _prefixes(members, layout):
                candidate = _as_set(group, prefix, members, arrays, name, layout)
                key = (group, prefix)
                best = found.get(key)
                if candidate and (best is None or len(candidate.unknown) < len(best.unknown)):
                    found[key] = candidate
    return _without_parts(list(found.values()))


def _groups(arrays: Arrays, layout: Layout) -> dict[ArrayPath, dict[str, ArrayPath]]:
    """Returns {path of a dictionary: {name in it: whole path}} as the layout's software nests."""
    groups: dict[ArrayPath, dict[str, ArrayPath]] = {}
    for path in arrays:
        if layout.separator == "/":
            groups.setdefault((), {})["/".join(path)] = path
        else:
            groups.setdefault(path[:-1], {})[path[-1]] = path
    return groups


def _prefixes(members: Mapping[str, ArrayPath], layout: Layout) -> list[str]:
    anchors = []
    for role in _ANCHORS:
        kind = {"conv0": "conv", "norm5": "norm", "classifier": "linear"}[role]
        for leaf in layout.leaves[kind]:  # type: ignore[index]
            name = layout.names[role].format(
                conv_number="", norm_number="", collection=leaf.collection
            )
            anchors.append(f"{name}{layout.separator}{leaf.name}")
    prefixes = []
    for key in members:
        for anchor in anchors:
            if key.endswith(anchor):
                prefix = key.removesuffix(anchor)
                if prefix in prefixes or (prefix and not prefix.endswith(layout.separator)):
                    continue
                prefixes.append(prefix)
    return prefixes


def _as_set(
    group: ArrayPath,
    prefix: str,
    members: Mapping[str, ArrayPath],
    arrays: Arrays,
    name: str,
    layout: Layout,
) -> WeightSet | None:
    paths = {k.removeprefix(prefix): path for k, path in members.items() if k.startswith(prefix)}
    parsed = parse({key: arrays[path].shape for key, path in paths.items()}, layout)
    if not _looks_like_a_network(parsed):
        return None
    where = ": ".join(part for part in ("/".join(group), prefix) if part)
    head = layout.names["classifier"]
    paths = {
        key.replace(f"{head}{parsed.head_suffix}.", f"{head}.", 1): p for key, p in paths.items()
    }
    return WeightSet(where, name, {k: arrays[p] for k, p in paths.items()}, paths, parsed.unknown)


def _looks_like_a_network(parsed: Parsed) -> bool:
    roles = {place.role for place in parsed.places.values()}
    numbered = roles <= {"conv0", "norm0", "classifier"} and len(parsed.places) > len(roles) * 4
    return (bool(roles & _DENSE_ROLES) or numbered) and len(parsed.places) > len(parsed.unknown)


def _without_parts(sets: list[WeightSet]) -> list[WeightSet]:
    """Leaves out what is only part of another set, read with a longer prefix or another layout."""

    def is_part(one: WeightSet) -> bool:
        mine = set(one.paths.values())
        return any(
            mine <= (theirs := set(other.paths.values()))
            and (len(theirs) > len(mine) or len(other.unknown) < len(one.unknown))
            and len(other.unknown) <= len(one.unknown)
            for other in sets
            if other is not one
        )

    return [one for one in sets if not is_part(one)]
