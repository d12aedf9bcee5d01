"""Lays the names in a Keras file flat, as if no model stood inside of another one."""

import re
from typing import Any

from flax_densenet.network.layers import ArrayPath
from flax_densenet.weights.files.contents import Contents

INNER_MODELS = ("functional", "sequential", "model")  # default names of their classes
_INNER_MODEL = re.compile(rf"({'|'.join(INNER_MODELS)})(_[1-9][0-9]*)?")
LAYER_NAMES, WEIGHT_NAMES = "layer_names", "weight_names"  # attributes of groups


def lay_flat(contents: Contents) -> Contents:
    """Returns the contents with the names that the layers have by themselves.

    In a `.h5` file every array gets the name layer/layer/array, where a model inside of the model
    or a Sequential around it gave others. In a `.weights.h5` file the groups of models are taken
    out. Where two layers would get one name, nothing is changed.

    Args:
      contents: Contents of a Keras file.
    """
    roots = {keys[:-1] for keys in contents.settings if _is_list_of_layers(keys)}
    renamed = {}
    for keys in contents.arrays:
        root = next((root for root in roots if keys[: len(root)] == root), None)
        renamed[keys] = (
            _without_models(keys) if root is None else _flat(keys, contents.settings, len(root))
        )
    if len(set(renamed.values())) < len(renamed):
        return contents
    settings = {_without_models(keys): value for keys, value in contents.settings.items()}
    arrays = {renamed[keys]: array for keys, array in contents.arrays.items()}
    return contents._replace(arrays=arrays, settings=settings)


def layer_names(contents: Contents) -> list[str]:
    """Returns the names of all layers of a `.h5` file's outer model; none if it does not say."""
    names: list[str] = []
    for keys, value in contents.settings.items():
        if _is_list_of_layers(keys) and isinstance(value, list):
            names += [str(name) for name in value]
    return names


def _is_list_of_layers(keys: ArrayPath) -> bool:
    # Long lists are cut in pieces: layer_names0, layer_names1...
    is_list = keys and re.fullmatch(rf"{LAYER_NAMES}\d*", keys[-1])
    return bool(is_list) and keys[:-1] in ((), ("model_weights",))


def _flat(keys: ArrayPath, settings: dict[ArrayPath, Any], begin: int) -> ArrayPath:
    for length in range(begin + 1, len(keys)):
        weights = settings.get((*keys[:length], WEIGHT_NAMES))
        if not isinstance(weights, list):
            continue
        if "/".join(keys[length:]) not in {str(name).removesuffix(":0") for name in weights}:
            continue
        outer, inner = keys[begin:length], keys[length:-1]
        layer = outer if inner[-len(outer) :] == outer else inner
        return (*keys[:begin], *layer, *layer, keys[-1])
    return keys


def _without_models(keys: ArrayPath) -> ArrayPath:
    """Takes the models out of "layers/functional/layers/conv2d"."""
    flat = list(keys)
    while len(flat) > 2 and flat[2] == flat[0] == "layers" and _INNER_MODEL.fullmatch(flat[1]):
        del flat[:2]
    return tuple(flat)
