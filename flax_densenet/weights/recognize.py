"""Finds the sets of DenseNet weights in a file, and the layout of each.

Names are compared with every layout's table, without knowing the network.
"""

import re
from collections.abc import Mapping
from functools import cache
from typing import NamedTuple

import numpy as np

from flax_densenet.network.layers import ArrayPath
from flax_densenet.weights.layouts import KERAS_LEAVES, LAYOUTS, Layout
from flax_densenet.weights.places import Parsed, parse

Arrays = Mapping[ArrayPath, np.ndarray]

_ANCHORS = {"conv0": "conv", "norm5": "norm", "classifier": "linear"}  # a prefix ends before them
_DENSE_ROLES = {"conv1", "norm1", "conv"}  # without one of these it is only part of a network


class WeightSet(NamedTuple):
    """One network's weights in a file.

    Attributes:
      where: Its place in the file, such as "state_dict: module."; "" is the whole file.
      layout: Key of `LAYOUTS`.
      arrays: Its arrays under the layout's names.
      paths: Their paths in the file.
      parsed: What the names say.
      is_part: Whether the module that the layout calls "features" stands alone or under another
        name, as where it was taken out of its network.
    """

    where: str
    layout: str
    arrays: dict[str, np.ndarray]
    paths: dict[str, ArrayPath]
    parsed: Parsed
    is_part: bool = False

    @property
    def unknown(self) -> list[str]:
        """Names in it that the layout does not have."""
        return self.parsed.unknown

    @property
    def has_head(self) -> bool:
        """Whether a classifier is in it."""
        return any(place.role == "classifier" for place in self.parsed.places.values())

    def is_inside(self, key: str) -> bool:
        """Returns whether a name is one of the network's, or could be but for the classifier."""
        if place := self.parsed.places.get(key):
            return place.role != "classifier"
        if self.parsed.layout.separator != ".":
            return True  # nothing else may be in the file
        return _first_word(key) in _own_words(self.layout)

    def with_paths(self, paths: Mapping[str, ArrayPath], arrays: Arrays) -> "WeightSet":
        """Returns the set with other arrays in it, in the order of the file.

        Args:
          paths: Their paths in the file, by the layout's names.
          arrays: Everything in the file, by path.
        """
        keys = {path: key for key, path in paths.items()}  # optimizers count by the file's order
        mine = {keys[path]: array for path, array in arrays.items() if path in keys}
        parsed = parse({key: array.shape for key, array in mine.items()}, self.parsed.layout)
        return self._replace(arrays=mine, paths={k: paths[k] for k in mine}, parsed=parsed)


def find_weight_sets(arrays: Arrays) -> list[WeightSet]:
    """Returns every set of weights that could be a DenseNet's, in the order of the file.

    Args:
      arrays: Everything in the file, by path.
    """
    found: dict[tuple[ArrayPath, str], WeightSet] = {}
    for name, layout in LAYOUTS.items():
        for group, members in _groups(arrays, layout).items():
            for prefix, left_out in _prefixes(members, name):
                candidate = _as_set(group, prefix, left_out, members, arrays, name)
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


@cache
def _own_words(name: str, without: str = "") -> frozenset[str]:
    """Returns the first words, without numbers, of a layout's names, but not the classifier's.

    `without`, such as "features.", is taken away before the words.
    """
    layout = LAYOUTS[name]
    head = _first_word(layout.names["classifier"])
    names = [name for name in layout.names.values() if _first_word(name) != head]
    return frozenset(_first_word(name.removeprefix(without)) for name in names)


def _first_word(name: str) -> str:
    return re.sub(r"\d|\{\w+\}", "", name.partition(".")[0])


def _container(name: str) -> str:
    """Returns the module that all layers but the classifier are in, such as "features."."""
    words = _own_words(name)
    return f"{next(iter(words))}." if LAYOUTS[name].separator == "." and len(words) == 1 else ""


def _prefixes(members: Mapping[str, ArrayPath], name: str) -> list[tuple[str, str]]:
    """Returns what may stand before the layout's names, and what these may lack at their start."""
    layout = LAYOUTS[name]
    prefixes: dict[tuple[str, str], None] = {}
    for left_out in sorted({"", _container(name)}):
        anchors = _anchors(layout, left_out)
        for key in members:
            for anchor in anchors:
                if key.endswith(anchor):
                    prefix = key.removesuffix(anchor)
                    is_whole = not prefix or prefix.endswith(layout.separator)
                    lacks_nothing = left_out and prefix.endswith(left_out)
                    if is_whole and not lacks_nothing:
                        prefixes[prefix, left_out] = None
    return list(prefixes)


def _anchors(layout: Layout, left_out: str) -> list[str]:
    return [
        f"{name.removeprefix(left_out)}{layout.separator}{leaf.name}"
        for role, kind in _ANCHORS.items()
        for leaf in layout.leaves[kind]  # type: ignore[index]
        for name in [
            layout.names[role].format(conv_number="", norm_number="", collection=leaf.collection)
        ]
        if name.startswith(left_out)
    ]


def _as_set(
    group: ArrayPath,
    prefix: str,
    left_out: str,
    members: Mapping[str, ArrayPath],
    arrays: Arrays,
    name: str,
) -> WeightSet | None:
    layout = LAYOUTS[name]
    paths = {k.removeprefix(prefix): path for k, path in members.items() if k.startswith(prefix)}
    if layout.leaves is KERAS_LEAVES:
        paths = _with_usual_head(paths, arrays, layout)
    if left_out:
        if any(key.startswith(left_out) for key in paths):
            return None  # there are two networks, and this name would stand for both
        words = _own_words(name, left_out)
        paths = {f"{left_out}{k}" if _first_word(k) in words else k: p for k, p in paths.items()}
    where = ": ".join(part for part in ("/".join(group), prefix) if part)
    empty = WeightSet(where, name, {}, {}, parse({}, layout), is_part=bool(left_out))
    found = empty.with_paths(paths, arrays)
    return found if _looks_like_a_network(found) else None


def _with_usual_head(
    paths: dict[str, ArrayPath], arrays: Arrays, layout: Layout
) -> dict[str, ArrayPath]:
    """Gives the only linear layer of a Keras file the layout's name for the classifier.

    Everybody names the classifier for a new task there.
    """
    pattern = re.compile(r"(?P<name>(.+)/\2)(?P<leaf>/kernel|/bias)")
    found = {key: match for key in paths if (match := pattern.fullmatch(key))}
    names = {match["name"] for key, match in found.items() if arrays[paths[key]].ndim == 2}
    found = {key: match for key, match in found.items() if match["name"] in names}
    if len(names) != 1:
        return paths
    usual = layout.names["classifier"]
    return {
        usual + found[key]["leaf"] if key in found else key: path for key, path in paths.items()
    }


def _looks_like_a_network(one: WeightSet) -> bool:
    places = one.parsed.places
    roles = {place.role for place in places.values()}
    numbered = roles <= {"conv0", "norm0", "classifier"} and len(places) > len(roles) * 4
    # What is beside it, such as a decoder, may be larger than the network.
    unknown = [key for key in one.unknown if one.is_inside(key)]
    return (bool(roles & _DENSE_ROLES) or numbered) and len(places) > len(unknown)


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
