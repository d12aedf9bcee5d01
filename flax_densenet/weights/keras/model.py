"""Reads the model that a whole-model Keras file describes in JSON, as a graph of layers.

Keras 2 and 3 write the connections differently; both are read. Models inside of models are laid
flat. Nothing is built or run.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

_MODELS = ("Functional", "Model", "Sequential")
_DEEPEST = 20


class Node(NamedTuple):
    """A layer of the file's model.

    Attributes:
      name: Its name.
      class_name: Its class, with the module if that is none of Keras.
      settings: Its arguments, as the file has them.
      inputs: Keys of the layers before it.
      number: How many layers of its class stand before it in its model.
      training: What it is told of training in its call; None if nothing.
    """

    name: str
    class_name: str
    settings: Mapping[str, Any]
    inputs: tuple[str, ...]
    number: int
    training: Any


class KerasModel(NamedTuple):
    """A model.

    Attributes:
      nodes: Its layers by key, in the file's order. A key is the name, after the names of the
        models that the layer is in.
      output: Key of the last layer.
    """

    nodes: dict[str, Node]
    output: str


class NotUnderstood(Exception):
    """The description is none that can be read; the message completes "its model"."""


def read_model(text: str) -> KerasModel:
    """Reads the description.

    Args:
      text: JSON as Keras writes it.

    Raises:
      NotUnderstood: It is no such description, or a model of several inputs or outputs.
    """
    try:
        outer = json.loads(text)
        nodes: dict[str, Node] = {}
        output = _read_model(outer, "", (), nodes, depth=0)
    except (ValueError, RecursionError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise NotUnderstood(f"is described in a way that is not known ({error})") from error
    return KerasModel(nodes, output)


def class_of(layer: Mapping[str, Any]) -> str:
    """Returns the class of a layer, with its module where Keras does not have it."""
    module = layer.get("module") or "keras"
    is_keras = str(module).partition(".")[0] in ("keras", "tf_keras")
    return str(layer["class_name"]) if is_keras else f"{module}.{layer['class_name']}"


def _read_model(
    model: Mapping[str, Any],
    prefix: str,
    inputs: tuple[str, ...],
    nodes: dict[str, Node],
    *,
    depth: int,
) -> str:
    """Adds a model's layers; returns the key of its last one."""
    if depth > _DEEPEST:
        raise NotUnderstood(f"nests models more than {_DEEPEST} deep")
    if class_of(model) not in _MODELS:
        raise NotUnderstood(f"is of the class {class_of(model)}; wanted Functional or Sequential")
    config = model["config"]
    is_chain = model["class_name"] == "Sequential"
    layers = config if isinstance(config, list) else config["layers"]
    numbers: dict[str, int] = {}
    ends: dict[str, str] = {}  # names in this model, and the key of the layer that ends each
    last = inputs
    for layer in layers:
        name, kind = str(layer["config"]["name"]), class_of(layer)
        counted = layer["class_name"]  # without the module, as Keras counts
        number = numbers[counted] = numbers.get(counted, -1) + 1
        if is_chain:
            before, training = last, None
        else:
            names, training = _connections(layer, name)
            before = tuple(ends[one] for one in names)
        if kind == "InputLayer" and inputs:
            ends[name] = inputs[0]
            continue
        key = f"{prefix}{name}"
        if kind in _MODELS:
            if training:
                raise NotUnderstood(f"calls {key} with training={training}, so not in evaluation")
            ends[name] = _read_model(layer, f"{key}/", before, nodes, depth=depth + 1)
        elif key in nodes:
            raise NotUnderstood(f"has two layers called {key}")
        else:
            nodes[key] = Node(name, kind, layer["config"], before, number, training)
            ends[name] = key
        last = (ends[name],)
    if is_chain:
        return last[0]
    outputs = config["output_layers"]
    flat = outputs if isinstance(outputs[0], str) else outputs[0]
    if flat is not outputs and len(outputs) != 1:
        raise NotUnderstood(f"has {len(outputs)} outputs; wanted one, the logits of the classes")
    return ends[flat[0]]


def _connections(layer: Mapping[str, Any], name: str) -> tuple[list[str], Any]:
    """Returns the names of the layers before a layer, and what its call says of training."""
    calls = layer["inbound_nodes"]
    if len(calls) > 1:
        raise NotUnderstood(f"uses {name} {len(calls)} times; wanted every layer once")
    if not calls:
        return [], None
    (call,) = calls
    if isinstance(call, dict):  # Keras 3
        extra = {k: v for k, v in call["kwargs"].items() if k not in ("mask", "training")}
        if any(value is not None for value in extra.values()):
            raise NotUnderstood(f"calls {name} with {', '.join(extra)}")
        return list(_tensors(call["args"], name)), call["kwargs"].get("training")
    names, training = [], None
    for item in [call] if isinstance(call[0], str) else call:
        names.append(str(item[0]))
        said = item[3] if len(item) > 3 else {}
        training = said.get("training", training)
        if any(k not in ("mask", "training") and v is not None for k, v in said.items()):
            raise NotUnderstood(f"calls {name} with {', '.join(said)}")
    return names, training


def _tensors(value: Any, name: str) -> Iterator[str]:
    if isinstance(value, list):
        for item in value:
            yield from _tensors(item, name)
    elif isinstance(value, dict) and value.get("class_name") == "__keras_tensor__":
        yield str(value["config"]["keras_history"][0])
    elif value is not None:
        raise NotUnderstood(f"calls {name} with {value!r}")
