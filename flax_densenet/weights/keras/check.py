"""Checks that a Keras file says no more of its network than what its weights are read as."""

import dataclasses
import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from flax_densenet.errors import InputError, listed
from flax_densenet.network.config import DenseNetConfig
from flax_densenet.network.layers import ArrayPath
from flax_densenet.weights.files.contents import Contents
from flax_densenet.weights.keras.compare import TRAINING_ONLY, compare
from flax_densenet.weights.keras.layers import (
    KerasLayer,
    class_of_default_name,
    default_name,
    keras_layers,
)
from flax_densenet.weights.keras.model import KerasModel, NotUnderstood, read_model
from flax_densenet.weights.keras.names import INNER_MODELS, WEIGHT_NAMES, layer_names
from flax_densenet.weights.layouts import LAYOUTS, Layout
from flax_densenet.weights.places import is_numbered
from flax_densenet.weights.recognize import WeightSet
from flax_densenet.weights.table import correspondence

MODEL = ("model_config",)  # where the reader puts a whole model's description
_KERAS_HUB = re.compile(r"\bstack\d+_block\d+_\d_(bn|conv)\b")
_CLASSIFIER = ("classifier",)
_GLOBAL_POOLS = ("avg_pool", "max_pool")  # their names in keras.applications
_INPUTS = {"input", "input_layer"}  # their default names in Keras 2 and 3
_WITHOUT_FUNCTION = {"flatten", "identity"}
# The published files are older than this layer: github.com/keras-team/keras-applications/issues/31
_LAST_RELU, _IMAGENET_CLASSES = "relu", 1000
_SAVE_WHOLE = "model.save(FILE) of Keras writes a file that says so"


class Layers(NamedTuple):
    """The layers without weights that a file of weights alone names.

    Attributes:
      classes: {name: default name of its class}; "" where only the name itself may say.
      is_complete: Whether layers that are not among them are not in the network.
    """

    classes: dict[str, str]
    is_complete: bool


def is_keras(contents: Contents) -> bool:
    """Returns whether a file is Keras's, and not our own in its format."""
    return contents.format.startswith("Keras") and not contents.metadata


def refuse_keras_hub(path: Path, contents: Contents) -> None:
    """Refuses KerasHub's DenseNet, which is another network.

    Args:
      path: The file.
      contents: What it holds.

    Raises:
      InputError: The names in it are KerasHub's.
    """
    texts = [
        *("/".join(keys) for keys in contents.arrays),
        *(value for value in contents.settings.values() if isinstance(value, str)),
    ]
    if any(_KERAS_HUB.search(text) for text in texts):
        raise InputError(
            f"{path} is a DenseNet of KerasHub, whose stem pads images only on the right and below "
            "where all others pad every side, so that its outputs are others; take the weights of "
            "keras.applications instead"
        )


def check(
    path: Path, contents: Contents, chosen: WeightSet, config: DenseNetConfig
) -> tuple[DenseNetConfig, list[str]]:
    """Compares what a Keras file says of its network with a configuration.

    Args:
      path: The file.
      contents: What it holds.
      chosen: The network's weights in it.
      config: The network that was inferred from them.

    Returns:
      The configuration with what the file says, and what a user should know, in sentences.

    Raises:
      InputError: The file says that its network is another one; every difference is named.
    """
    config, warnings = _check(path, contents, chosen, config)
    layout, name = chosen.parsed.layout, _names(chosen, config).get(_CLASSIFIER)
    is_named = name is not None and not is_numbered(layout)
    if is_named and f"{name}/{name}" != layout.names["classifier"]:
        warnings.append(f"its layer {name} is taken as the classifier")
    return config, warnings


def _check(
    path: Path, contents: Contents, chosen: WeightSet, config: DenseNetConfig
) -> tuple[DenseNetConfig, list[str]]:
    if MODEL in contents.settings:
        return _check_model(path, str(contents.settings[MODEL]), chosen, config)
    numbered = is_numbered(chosen.parsed.layout)
    found = _numbered_layers(contents) if numbered else _named(contents, chosen)
    if not found.classes:
        return config, [
            "the file does not say which pooling and activations its network has; averages and "
            f"ReLU are assumed, as in keras.applications; {_SAVE_WHOLE}"
        ]
    pools = [name for name in found.classes if _is_global_pool(found.classes[name] or name)]
    layers = _our_layers(chosen, config, with_pool=bool(pools))
    warnings = []
    if found.is_complete and not numbered and _LAST_RELU not in found.classes:
        if config.num_classes == _IMAGENET_CLASSES or not chosen.has_head:
            layers = [layer for layer in layers if layer.name != _LAST_RELU]
            warnings.append(
                "the file names no ReLU behind the last normalization, which keras.applications "
                "did not have before August 2018; for these weights it has one since, and so here"
            )
    differences, passed = _compare_layers(found, layers)
    _refuse(path, differences)
    said = "the file names its layers without their settings"
    if not found.is_complete:
        said = "the file does not name the layers of the model inside of its model"
    return config, [
        *warnings,
        *_passed(passed),
        f"{said}; activations, padding and epsilon are taken to be those of keras.applications; "
        f"{_SAVE_WHOLE}",
    ]


def _check_model(
    path: Path, text: str, chosen: WeightSet, config: DenseNetConfig
) -> tuple[DenseNetConfig, list[str]]:
    try:
        model = read_model(text)
    except NotUnderstood as error:
        raise InputError(
            f"{path} describes its model, and it {error}; if its weights are a DenseNet's, give "
            "them alone: model.save_weights(FILE) of Keras"
        ) from error
    if _pools_by_maximum(model):
        config = dataclasses.replace(config, transition_pool="max")
    pools = [node for node in model.nodes.values() if node.class_name.startswith("Global")]
    layers = _our_layers(chosen, config, with_pool=bool(pools))
    found = compare(model, layers, _names(chosen, config))
    differences = list(found.differences)
    for value, name in ((found.epsilon, "epsilon"), (found.momentum, "momentum")):
        if value is None and not differences:
            differences.append(f"its normalizations differ in {name}; this network has one")
    _refuse(path, differences)
    assert found.epsilon is not None and found.momentum is not None
    try:
        config = dataclasses.replace(
            config,
            batch_norm_epsilon=found.epsilon,
            batch_norm_momentum=round(1 - found.momentum, 12),  # of the new, and not of the old
        )
    except InputError as error:
        raise InputError(f"{path} describes a network that cannot be built: {error}") from error
    warnings = _passed(found.passed)
    if found.head_activation == "sigmoid":
        warnings.append(
            "the file's network ends in a sigmoid, so each output is a label by itself; the "
            "logits are taken, and a softmax over them, as in predict, means nothing"
        )
    return config, warnings


def _refuse(path: Path, differences: list[str]) -> None:
    if differences:
        raise InputError(
            f"{path} holds another network than a DenseNet that this package computes: "
            f"{listed(differences)}; nothing was converted"
        )


def _passed(layers: list[str]) -> list[str]:
    if not layers:
        return []
    return [f"layers that act in training alone are not taken: {listed(layers)}"]


def _pools_by_maximum(model: KerasModel) -> bool:
    """Returns whether no pooling of the model is an average, and some is a 2x2 maximum."""
    pools = [node for node in model.nodes.values() if node.class_name.endswith("Pooling2D")]
    is_average = any(node.class_name == "AveragePooling2D" for node in pools)
    return not is_average and any(
        node.class_name == "MaxPooling2D" and node.settings.get("pool_size") == [2, 2]
        for node in pools
    )


def _our_layers(chosen: WeightSet, config: DenseNetConfig, *, with_pool: bool) -> list[KerasLayer]:
    """Returns our network's layers, and without a classifier those that the file may have.

    Args:
      chosen: The file's weights.
      config: The network.
      with_pool: Whether the file has a pooling over all of the image; that matters without a
        classifier, where Keras leaves it to the user.
    """
    layers = keras_layers(config, _naming(chosen))
    if chosen.has_head:
        return layers
    return layers[:-1] if with_pool else layers[:-2]


def _is_global_pool(name: str) -> bool:
    """Returns whether a layer of this name or class pools over all of the image."""
    return name in _GLOBAL_POOLS or name.startswith("global_")


def _naming(chosen: WeightSet) -> Layout:
    """Returns the layout whose names of layers are Keras's own."""
    layout = chosen.parsed.layout
    return LAYOUTS["keras"] if is_numbered(layout) else layout


def _names(chosen: WeightSet, config: DenseNetConfig) -> dict[ArrayPath, str | int]:
    """Returns what the file calls each layer: its name, or its number in its class."""
    names: dict[ArrayPath, str | int] = {}
    for row in correspondence(config, chosen.parsed.layout):
        if row.key not in chosen.paths:
            continue  # the classifier, which may be missing
        keys = chosen.paths[row.key]
        if is_numbered(chosen.parsed.layout):
            number = re.search(r"_([0-9]+)$", keys[-3])
            names[row.layer.path] = int(number[1]) if number else 0
        else:
            inner = "/".join(keys)[len(chosen.where) :].split("/")[:-1]
            names[row.layer.path] = "/".join(inner[: len(inner) // 2])
    return names


def _named(contents: Contents, chosen: WeightSet) -> Layers:
    """Returns the layers without weights of a `.h5` file."""
    prefix = tuple(chosen.where.strip("/").split("/")) if chosen.where else ()
    with_weights = {"/".join(keys[len(prefix) : -1]) for keys in chosen.paths.values()}
    classes, is_complete = {}, True
    for name in layer_names(contents):
        if contents.settings.get((*prefix, *name.split("/"), WEIGHT_NAMES)):
            is_complete &= f"{name}/{name}" in with_weights  # or it is a model
        else:
            classes[name] = ""
    return Layers(classes, is_complete)


def _numbered_layers(contents: Contents) -> Layers:
    """Returns the layers without weights of a `.weights.h5` file."""
    classes = {}
    for keys, value in contents.settings.items():
        if value is None and len(keys) == 3 and (keys[0], keys[2]) == ("layers", "vars"):
            name, kind = (
                contents.settings.get((*keys, "name"), keys[1]),
                class_of_default_name(keys[1]),
            )
            if kind not in INNER_MODELS:
                classes[str(name)] = kind
    return Layers(classes, is_complete=True)


def _compare_layers(found: Layers, layers: list[KerasLayer]) -> tuple[list[str], list[str]]:
    """Returns the differences, in clauses, and the layers that act in training alone."""
    without = [layer for layer in layers if not layer.path]
    ours = {layer.name: default_name(layer.class_name) for layer in without}
    wanted = Counter(default_name(layer.class_name) for layer in without)
    training = {default_name(name): name for name in TRAINING_ONLY}
    got: Counter[str] = Counter()
    differences, passed = [], []
    for name, said in found.classes.items():
        kind = said or ours.get(name) or class_of_default_name(name)
        got[kind] += 1
        if kind in training:
            passed.append(f"{name} ({training[kind]})")
        elif kind in _INPUTS or kind in _WITHOUT_FUNCTION or got[kind] <= wanted[kind]:
            continue
        elif kind in wanted:
            differences.append(f"{name} is one {kind} more than the {wanted[kind]} of this network")
        else:
            what = f"{name}, a {kind}," if kind != name else name
            differences.append(f"{what} is a layer that this network does not have")
    for kind, number in wanted.items():
        if found.is_complete and got[kind] < number and kind not in _INPUTS:
            differences.append(f"it has {got[kind]} of the {number} layers {kind}")
    return differences, passed
