"""Finds the sets of DenseNet weights in a file, and the layout of each.

Names are compared with every layout's table, without knowing the network.
"""

import re
from collections.abc import Collection, Mapping
from typing import NamedTuple

import numpy as np

from flax_densenet.network.layers import ArrayPath, Kind
from flax_densenet.weights.layouts import KERAS_LEAVES, LAYOUTS, Layout, Leaf

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


Arrays = Mapping[ArrayPath, np.ndarray]

_ANCHORS = ("conv0", "norm5", "classifier")  # what is before these names is a common prefix
_DENSE_ROLES = {"conv1", "norm1", "conv"}  # without one of these it is only part of a network


class WeightSet(NamedTuple):
    """One network's weights in a file.

    Attributes:
      where: Its place in the file, such as "state_dict: module."; "" is the whole file.
      layout: Key of `LAYOUTS`.
      arrays: Its arrays under the layout's names, also a classifier that has another one there.
      paths: Their paths in the file.
      parsed: What the names say.
    """

    where: str
    layout: str
    arrays: dict[str, np.ndarray]
    paths: dict[str, ArrayPath]
    parsed: Parsed

    @property
    def unknown(self) -> list[str]:
        """Names in it that the layout does not have."""
        return self.parsed.unknown

    def without(self, keys: Collection[str]) -> "WeightSet":
        """Returns the set without some of the names that the layout does not have."""
        kept = [key for key in self.arrays if key not in keys]
        parsed = self.parsed._replace(
            shapes={key: self.parsed.shapes[key] for key in kept},
            unknown=[key for key in self.unknown if key not in keys],
        )
        return self._replace(
            arrays={key: self.arrays[key] for key in kept},
            paths={key: self.paths[key] for key in kept},
            parsed=parsed,
        )


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
    """Returns {path of a dictionary: {name in it: whole path}}, nested as the layout nests."""
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
    paths = _with_usual_head(paths, arrays, layout)
    parsed = parse({key: arrays[path].shape for key, path in paths.items()}, layout)
    if not _looks_like_a_network(parsed):
        return None
    where = ": ".join(part for part in ("/".join(group), prefix) if part)
    return WeightSet(where, name, {k: arrays[p] for k, p in paths.items()}, paths, parsed)


def _with_usual_head(
    paths: dict[str, ArrayPath], arrays: Arrays, layout: Layout
) -> dict[str, ArrayPath]:
    """Gives the classifier the layout's name for it, where the file has another one.

    That is "classifier.0", as the only layer of a Sequential, and in Keras, where everybody names
    the classifier for a new task, the only linear layer whatever its name.
    """
    usual = layout.names["classifier"]
    if layout.leaves is KERAS_LEAVES:
        pattern = re.compile(r"(?P<name>(.+)/\2)(?P<leaf>/kernel|/bias)")
    elif layout.separator == ".":
        pattern = re.compile(rf"(?P<name>{re.escape(usual)}(|\.\d+))(?P<leaf>\.\w+)")
    else:
        return paths
    found = {key: match for key in paths if (match := pattern.fullmatch(key))}
    if layout.leaves is KERAS_LEAVES:
        kernels = {key: m for key, m in found.items() if arrays[paths[key]].ndim == 2}
        names = {match["name"] for match in kernels.values()}
        found = {key: match for key, match in found.items() if match["name"] in names}
    if len({match["name"] for match in found.values()}) != 1:  # several layers
        return paths
    return {
        usual + found[key]["leaf"] if key in found else key: path for key, path in paths.items()
    }


def _looks_like_a_network(parsed: Parsed) -> bool:
    roles = {place.role for place in parsed.places.values()}
    numbered = roles <= {"conv0", "norm0", "classifier"} and len(parsed.places) > len(roles) * 4
    return (bool(roles & _DENSE_ROLES) or numbered) and len(parsed.places) > len(parsed.unknown)


def _without_parts(sets: list[WeightSet]) -> list[WeightSet]:
    """Leaves out parts of other sets, read with a longer prefix or with another layout."""

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
