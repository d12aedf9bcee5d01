"""Recognition of a PyTorch DenseNet: its configuration, and the layout of its names."""

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from flax_densenet.errors import InputError, listed
from flax_densenet.network.config import DenseNetConfig
from flax_densenet.parity.half import PARAMETERS
from flax_densenet.weights.heads import find_head
from flax_densenet.weights.infer import infer_config
from flax_densenet.weights.layouts import LAYOUTS, TORCH_LEAVES
from flax_densenet.weights.recognize import WeightSet, find_weight_sets
from flax_densenet.weights.table import correspondence, from_arrays


class Recognized(NamedTuple):
    """A PyTorch DenseNet that was recognized.

    Attributes:
      config: Its configuration, with its own epsilon and momentum and without dropout.
      keys: The reference's key of each of its parameters and running statistics.
      naming: Title of the layout of their names, for people.
    """

    config: DenseNetConfig
    keys: dict[str, str]
    naming: str


def recognize(model: nn.Module, title: str) -> Recognized:
    """Recognizes a DenseNet by the names and shapes of its arrays, as a file is recognized.

    Args:
      model: The network.
      title: Its name in messages.

    Raises:
      InputError: It is no DenseNet in a known layout, or not a whole one, or has arrays or settings
        that the reference has no place for; all of it is named.
    """
    if isinstance(model, torch.jit.ScriptModule):
        raise InputError(
            f"{title} is a TorchScript program, whose layers cannot be looked into; give the "
            "torch.nn.Module that it was made from"
        )
    state = {key: tensor for key, tensor in model.state_dict().items() if hasattr(tensor, "shape")}
    # Only the shapes matter.
    arrays = {key: np.broadcast_to(np.float32(0), tensor.shape) for key, tensor in state.items()}
    chosen = _choose(arrays, title)
    layout = LAYOUTS[chosen.layout]
    try:
        config = infer_config(chosen.parsed)
        from_arrays(chosen.arrays, config, layout)  # checks every name and shape
    except InputError as error:
        raise InputError(f"{title} has the names of {layout.title}, but {error}") from error
    pairs = zip(correspondence(config, layout), correspondence(config), strict=True)
    keys = {chosen.paths[row.key][0]: reference.key for row, reference in pairs}
    _check_parameters(model, keys, title)
    config = dataclasses.replace(
        config,
        batch_norm_epsilon=_same_everywhere(model, keys, "eps", title),
        batch_norm_momentum=_same_everywhere(model, keys, "momentum", title),
    )
    prefix = f", under {chosen.where}" if chosen.where else ""
    return Recognized(config, keys, layout.title + prefix)


def _choose(arrays: Mapping[str, np.ndarray], title: str) -> WeightSet:
    sets = find_weight_sets({(key,): array for key, array in arrays.items()})
    if not sets:
        first = next(iter(arrays), None)
        held = "it has none" if first is None else f"the first is {first} of {arrays[first].shape}"
        known = [one.title for one in LAYOUTS.values() if one.leaves is TORCH_LEAVES]
        raise InputError(
            f"{title} is no DenseNet whose names are known: of its {len(arrays):,} arrays, {held}; "
            f"wanted those of one of {', '.join(known)}"
        )
    if len(sets) > 1:
        raise InputError(
            f"{title} holds {len(sets)} DenseNets: {', '.join(repr(one.where) for one in sets)}; "
            "write a function that returns the one to be compared"
        )
    chosen, _ = find_head(sets[0], {(key,): array for key, array in arrays.items()})
    layout = LAYOUTS[chosen.layout]
    known_paths = {path for key, path in chosen.paths.items() if key not in chosen.unknown}
    unknown = [
        key
        for key in arrays
        if (key,) not in known_paths and not key.endswith(f".{layout.counter}")
    ]
    if unknown:
        raise InputError(
            f"{title} has the names of {layout.title}, but {listed(unknown)} "
            f"({len(unknown):,} arrays) belong to no layer of a DenseNet, so that it is another "
            "network"
        )
    return chosen


def _check_parameters(model: nn.Module, keys: Mapping[str, str], title: str) -> None:
    trainable = {key for key, _ in model.named_parameters()}  # a shared one appears once
    others = [
        key for key, name in keys.items() if name.endswith(PARAMETERS) and key not in trainable
    ]
    if others:
        raise InputError(
            f"{title}: {listed(others)} is a buffer or shared with another layer; wanted a "
            "parameter of its own for each layer"
        )


def _same_everywhere(
    model: nn.Module, keys: Mapping[str, str], attribute: str, title: str
) -> float:
    """Returns a setting that all batch normalizations must have in common."""
    places: dict[float | None, list[str]] = {}
    for key, name in keys.items():
        if name.endswith("running_mean"):
            path = key.rpartition(".")[0]
            value = getattr(model.get_submodule(path), attribute, None)
            places.setdefault(value, []).append(path)
    value, *others = places
    if others:
        rarest_first = sorted(places.items(), key=lambda item: len(item[1]))
        settings = "; ".join(
            f"{setting} in {len(paths)}, {listed(paths)}" for setting, paths in rarest_first
        )
        raise InputError(
            f"{title}: the {attribute} of its batch normalizations differs: {settings}; wanted one "
            "value in all"
        )
    if value is None:
        raise InputError(
            f"{title}: its batch normalizations have {attribute}=None; wanted a number, since a "
            "DenseNet's running statistics forget at a fixed rate"
            if attribute == "momentum"
            else f"{title}: its batch normalizations have no {attribute}, which the Flax network "
            "takes over"
        )
    return value
