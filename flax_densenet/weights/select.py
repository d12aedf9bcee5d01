"""Selects the network's weights in a file, and says what else the file holds."""

from pathlib import Path
from typing import NamedTuple

from flax_densenet.errors import InputError, counted, listed
from flax_densenet.network.layers import ArrayPath
from flax_densenet.weights.files.contents import Contents
from flax_densenet.weights.heads import Head, find_head, may_be_a_layer
from flax_densenet.weights.layouts import LAYOUTS
from flax_densenet.weights.optimizer import MOMENTUM
from flax_densenet.weights.recognize import WeightSet, find_weight_sets

# First words of the paths of what training checkpoints hold besides the weights.
_UNNEEDED = (
    MOMENTUM,
    "training",
    "optimizer",
    "optim",
    "optimizer_state_dict",
    "optimizer_state",
    "optimizer_states",
    "optimizer_weights",
    "metrics",
    "scheduler",
    "scheduler_state_dict",
    "lr_scheduler",
    "lr_schedulers",
    "scaler",
    "amp",
    "amp_scaler",
    "rng_state",
    "loops",
    "callbacks",
)


class Selected(NamedTuple):
    """The network's weights in a file.

    Attributes:
      weights: The weights.
      head: What the file holds of a classifier under other names than the layout's.
      unneeded: Paths of all else, which is left out.
    """

    weights: WeightSet
    head: Head
    unneeded: list[str]


def select(path: Path, contents: Contents, asked: str | None) -> Selected:
    """Returns the network's weights, and what else the file holds.

    Args:
      path: The file.
      contents: What it holds.
      asked: Place of the set of weights to take; None if the file must hold one alone.

    Raises:
      InputError: The file holds no network or several, or something that may be a part of one.
    """
    candidates = {k: a for k, a in contents.arrays.items() if not _is_unneeded(k)}
    chosen = _choose(path, find_weight_sets(candidates), contents, asked)
    weights, head = find_head(chosen, candidates)
    return _without_rest(path, contents, weights, head, asked=asked is not None)


def _choose(path: Path, sets: list[WeightSet], contents: Contents, asked: str | None) -> WeightSet:
    if not contents.arrays:
        raise InputError(f"{path} ({contents.format}) holds no arrays; wanted a DenseNet's weights")
    if not sets:
        names = ["/".join(keys) for keys in contents.arrays]
        raise InputError(
            f"{path} ({contents.format}) holds no DenseNet that can be converted: "
            f"{counted(names, 'array')} of it; the first, {names[0]} of shape "
            f"{next(iter(contents.arrays.values())).shape}, is in none of the known layouts: "
            f"{', '.join(layout.title for layout in LAYOUTS.values())}"
        )
    if asked is not None:
        named = [one for one in sets if one.where == asked]
        if not named:
            places = ", ".join(repr(one.where) for one in sets)
            raise InputError(f"{path} has no weights at {asked!r}; choose one of {places}")
        return named[0]
    if len(sets) > 1:
        places = ", ".join(f"{one.where!r} ({len(one.arrays)} arrays)" for one in sets)
        raise InputError(
            f"{path} holds {len(sets)} sets of weights: {places}; choose one with --weight_set"
        )
    return sets[0]


def _without_rest(
    path: Path, contents: Contents, chosen: WeightSet, head: Head, *, asked: bool
) -> Selected:
    """Takes away what is beside the network; refuses what may be a part of it."""
    layout = chosen.parsed.layout
    is_strict = layout.separator != "."  # only PyTorch's files hold losses and metrics
    places = chosen.parsed.places.items()
    heads = [chosen.parsed.shapes[key] for key, place in places if place.role == "classifier"]
    classes = heads[0][:1] if heads else None
    beside, unknown = set(), []
    for key in chosen.unknown:
        is_own = chosen.has_head and key.startswith(f"{layout.names['classifier']}.")
        if is_own or chosen.is_inside(key) or may_be_a_layer(key, chosen.arrays[key], classes):
            unknown.append(f"{chosen.where} {key}".strip())
        else:
            beside.add(key)
    kept = {key: keys for key, keys in chosen.paths.items() if key not in beside}
    rest = [keys for keys in contents.arrays if keys not in kept.values()]
    layers = [
        "/".join(keys)
        for keys in rest
        if not asked
        and keys not in chosen.paths.values()
        and keys not in head.found
        and not _is_unneeded(keys)
        and (is_strict or may_be_a_layer(keys[-1], contents.arrays[keys], classes))
    ]
    if unknown or layers:
        hint = ""
        if any(key.endswith("features.conv1.weight") for key in unknown):
            hint = "; a stem of three convolutions (timm's ...d nets) is not supported"
        elif layers and not unknown and chosen.where:
            hint = (
                f"; if they are not part of it, leave them out with --weight_set {chosen.where!r}"
            )
        raise InputError(
            f"{path} looks like {layout.title}, but "
            f"{counted(unknown + layers, 'array')} in it belong to no layer of a DenseNet: "
            f"{listed(unknown + layers)}{hint}; nothing was converted"
        )
    weights = chosen.with_paths(kept, contents.arrays)
    return Selected(weights, head, ["/".join(keys) for keys in rest])


def _is_unneeded(keys: ArrayPath) -> bool:
    """Returns whether an array is of the training: the optimizer's, or Keras's random numbers."""
    return keys[0].partition("/")[0] in _UNNEEDED or "seed_generator" in keys
