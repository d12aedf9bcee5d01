"""Compares the model that a Keras file describes with the network that we build from its weights.

Both are walked from the output back. What acts in training alone is passed over and told.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from flax_densenet.network.layers import ArrayPath
from flax_densenet.weights.keras.layers import HEAD_ACTIVATIONS, KerasLayer
from flax_densenet.weights.keras.model import KerasModel, Node

# Their output is their input in evaluation.
TRAINING_ONLY = frozenset(
    "Dropout SpatialDropout2D GaussianDropout GaussianNoise AlphaDropout ActivityRegularization "
    "AugMix CutMix MixUp RandAugment RandomBrightness RandomColorDegeneration RandomColorJitter "
    "RandomContrast RandomElasticTransform RandomErasing RandomFlip RandomGaussianBlur "
    "RandomGrayscale RandomHeight RandomHue RandomInvert RandomPerspective RandomPosterization "
    "RandomRotation RandomSaturation RandomSharpness RandomShear RandomTranslation RandomWidth "
    "RandomZoom".split()
)
# Keras 3 writes the default of their argument as if somebody had given it: training=True.
_AUGMENTATIONS = ("Rand", "AugMix", "CutMix", "MixUp")
_WITHOUT_FUNCTION = ("Identity", "Flatten")  # a Flatten where there is nothing to flatten
# Settings that change nothing in evaluation, or are compared elsewhere.
_PASSED = frozenset(
    "name trainable dtype data_format seed synchronized fused renorm_momentum momentum epsilon "
    "batch_shape batch_input_shape".split()
)
_PASSED_ENDINGS = ("_initializer", "_regularizer", "_constraint")
_EMPTY: tuple[Any, ...] = (None, False, (), {})
_CHANNELS = {"channels_last": (3, -1), "channels_first": (1,)}


class Compared(NamedTuple):
    """What the comparison found.

    Attributes:
      differences: What the file's model does otherwise, in clauses; empty if nothing.
      passed: Layers that act in training alone.
      epsilon: What its normalizations add to the variance; None if they differ.
      momentum: The weight of the old in its running statistics; None if they differ.
      head_activation: What follows its logits.
    """

    differences: list[str]
    passed: list[str]
    epsilon: float | None
    momentum: float | None
    head_activation: str


def compare(
    model: KerasModel, layers: list[KerasLayer], names: Mapping[ArrayPath, str | int]
) -> Compared:
    """Compares.

    Args:
      model: The file's model.
      layers: Our network.
      names: What the file calls the layer of each of our paths: its name, or its number among the
        layers of its class.
    """
    ours = {layer.name: layer for layer in layers}
    differences: list[str] = []
    passed: dict[str, str] = {}
    axes, mixed = _channel_axes(model)
    differences += mixed
    head_activation, start = _head_activation(model)
    stack = [(layers[-1], start)]
    matched: dict[str, str] = {}
    norms: list[Node] = []
    while stack:
        layer, key = stack.pop()
        key = _pass(model, key, passed, differences)
        if layer.name in matched and matched[layer.name] == key:
            continue
        matched[layer.name] = key
        node = _relu_as_activation(model.nodes[key]) if key else None
        if node is None:
            if layer.class_name != "InputLayer":
                differences.append(f"it begins behind this network's {layer.described}")
            continue
        if node.class_name != layer.class_name:
            differences.append(
                f"{node.name} is {_described(node)}; this network has {layer.described} there"
            )
            continue
        differences += _different_settings(node, layer, axes, after_head=head_activation)
        if layer.path and names[layer.path] not in (node.name, node.number):
            differences.append(
                f"{node.name} stands where this network has the {node.class_name} "
                f"{names[layer.path]}"
            )
        if layer.class_name == "BatchNormalization":
            norms.append(node)
        before = node.inputs or ("",)
        if len(before) != max(1, len(layer.inputs)):
            differences.append(f"{node.name} has {len(before)} inputs, and not {len(layer.inputs)}")
        stack.extend((ours[name], one) for name, one in zip(layer.inputs, before, strict=False))
    epsilons = {float(node.settings.get("epsilon", 1e-3)) for node in norms}
    momenta = {float(node.settings.get("momentum", 0.99)) for node in norms}
    return Compared(
        differences,
        list(passed.values()),
        epsilons.pop() if len(epsilons) == 1 else None,
        momenta.pop() if len(momenta) == 1 else None,
        head_activation or _plain(model.nodes[start].settings.get("activation", "linear")),
    )


def _head_activation(model: KerasModel) -> tuple[str, str]:
    """Returns the activation in a layer of its own behind the logits, and the key before it."""
    node = model.nodes[model.output]
    kind = "softmax" if node.class_name == "Softmax" else _plain(node.settings.get("activation"))
    if node.class_name in ("Softmax", "Activation") and kind in HEAD_ACTIVATIONS:
        return str(kind), node.inputs[0]
    return "", model.output


def _pass(model: KerasModel, key: str, passed: dict[str, str], differences: list[str]) -> str:
    """Returns the key of the next layer before this one that has a function in evaluation."""
    while key:
        node = model.nodes[key]
        if node.training and not node.class_name.startswith(_AUGMENTATIONS):
            differences.append(f"{node.name} is called with training={node.training}")
        if node.class_name in TRAINING_ONLY:
            passed[key] = f"{node.name} ({node.class_name})"
        elif node.class_name == "Activation":
            if _plain(node.settings.get("activation")) != "linear":
                return key
        elif node.class_name == "Flatten":
            before = model.nodes[node.inputs[0]].class_name
            if before not in ("GlobalAveragePooling2D", "GlobalMaxPooling2D", *TRAINING_ONLY):
                return key
        elif node.class_name not in _WITHOUT_FUNCTION:
            return key
        key = node.inputs[0] if node.inputs else ""
    return key


def _channel_axes(model: KerasModel) -> tuple[tuple[int, ...], list[str]]:
    formats = {
        str(value): node.name
        for node in model.nodes.values()
        if (value := node.settings.get("data_format")) is not None
    }
    if len(formats) > 1:
        both = " and ".join(f"{name} is {value}" for value, name in formats.items())
        return _CHANNELS["channels_last"], [f"its layers disagree on data_format: {both}"]
    return _CHANNELS.get(next(iter(formats), "channels_last"), ()), []


def _relu_as_activation(node: Node) -> Node:
    settings = dict(node.settings)
    if node.class_name != "ReLU" or any(
        settings.get(name) for name in ("max_value", "negative_slope", "threshold")
    ):
        return node
    return node._replace(class_name="Activation", settings={"activation": "relu"})


def _different_settings(
    node: Node, layer: KerasLayer, axes: tuple[int, ...], *, after_head: str
) -> list[str]:
    differences = []
    unknown = {
        name: value
        for name, value in node.settings.items()
        if name not in layer.settings
        and name not in _PASSED
        and not name.endswith(_PASSED_ENDINGS)
        and _plain(value) not in _EMPTY
        and layer.class_name != "InputLayer"
    }
    differences += [
        f"{node.name} ({node.class_name}) has {name}={_plain(value)}; this network has no such "
        "setting"
        for name, value in unknown.items()
    ]
    for name, wanted in layer.settings.items():
        got = _plain(node.settings.get(name))
        text = wanted
        if wanted == "channels":
            is_equal, text = got in axes, axes[0] if axes else wanted
        elif layer.class_name == "Dense" and name == "activation":
            is_equal = got == "linear" if after_head else got in wanted
        elif isinstance(wanted, tuple) and isinstance(wanted[0], str):
            is_equal = got in wanted
        else:
            is_equal = got == wanted
        if not is_equal:
            text = " or ".join(text) if text == ("linear", "softmax", "sigmoid") else text
            differences.append(
                f"{node.name} ({node.class_name}) has {name}={got}; this network has {name}={text}"
            )
    return differences


def _described(node: Node) -> str:
    if "activation" in node.settings and node.class_name == "Activation":
        return f"Activation(activation={_plain(node.settings['activation'])})"
    return node.class_name


def _plain(value: Any) -> Any:
    """Returns a setting in one form, whichever Keras wrote it."""
    if isinstance(value, list):
        return _plain(value[0]) if len(value) == 1 else tuple(_plain(item) for item in value)
    if isinstance(value, Mapping) and isinstance(value.get("config"), str):
        return value["config"]  # a function by its name
    return value
