"""Arranges a network's weights as a Keras file has them, beside the layers without weights."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np

from flax_densenet.errors import InputError
from flax_densenet.network.config import DenseNetConfig
from flax_densenet.network.layers import ArrayPath
from flax_densenet.weights.keras.layers import default_name, keras_layers
from flax_densenet.weights.keras.names import LAYER_NAMES, WEIGHT_NAMES
from flax_densenet.weights.layouts import LAYOUTS, Layout
from flax_densenet.weights.places import is_numbered
from flax_densenet.weights.table import correspondence


def arrange(
    arrays: Mapping[str, np.ndarray], config: DenseNetConfig, layout: Layout
) -> tuple[dict[ArrayPath, np.ndarray], dict[ArrayPath, dict[str, Any]]]:
    """Returns the arrays by their path in a Keras file, and the attributes of its groups.

    Args:
      arrays: Arrays under the layout's names.
      config: The network.
      layout: One of Keras.

    Raises:
      InputError: The arrays are bfloat16, and the layout is not that of Keras 3.
    """
    rows: dict[ArrayPath, list[ArrayPath]] = {}
    for row in correspondence(config, layout):
        rows.setdefault(row.layer.path, []).append(tuple(row.key.split("/")))
    placed = {keys: arrays["/".join(keys)] for paths in rows.values() for keys in paths}
    if is_numbered(layout):
        return placed, _numbered(config)
    if any(array.dtype == ml_dtypes.bfloat16 for array in placed.values()):
        raise InputError(
            "bfloat16 cannot be in a .h5 file, whose numbers Keras would not know as such; write a "
            ".weights.h5 file, or another --dtype"
        )
    layers = keras_layers(config, layout)
    attributes: dict[ArrayPath, dict[str, Any]] = {
        (): {
            LAYER_NAMES: [layer.name for layer in layers],
            # Without these, Keras takes the file for one of Keras 1.
            "backend": "tensorflow",
            "keras_version": "2.15.0" if layout is LAYOUTS["keras-2"] else "3.0.0",
        },
        ("top_level_model_weights",): {WEIGHT_NAMES: []},
    }
    for layer in layers:
        group = tuple(layer.name.split("/"))
        names = ["/".join(keys[len(group) :]) for keys in rows.get(layer.path, [])]
        attributes[group] = {WEIGHT_NAMES: names}
    return placed, attributes


def _numbered(config: DenseNetConfig) -> dict[ArrayPath, dict[str, Any]]:
    numbers: Counter[str] = Counter()
    attributes: dict[ArrayPath, dict[str, Any]] = {("vars",): {}}
    for layer in keras_layers(config):
        kind = default_name(layer.class_name)
        number = f"_{numbers[kind]}" if numbers[kind] else ""
        attributes["layers", f"{kind}{number}", "vars"] = {"name": layer.name}
        numbers[kind] += 1
    return attributes
