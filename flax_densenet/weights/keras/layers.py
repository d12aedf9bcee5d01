"""The layers of a DenseNet as Keras has them, with those that have no weights.

It is the network of `keras.applications.DenseNet`, and the same with our other stem and without
bottleneck. What a Keras file says is compared with it, and Keras files are written by it.
"""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from flax_densenet.network.config import DenseNetConfig
from flax_densenet.network.layers import ArrayPath, WeightLayer, weight_layers
from flax_densenet.weights.layouts import LAYOUTS, Layout

HEAD_ACTIVATIONS = ("linear", "softmax", "sigmoid")


class KerasLayer(NamedTuple):
    """One layer.

    Attributes:
      name: Its name in Keras applications.
      class_name: Its class in Keras.
      settings: What decides its function, by the names of its arguments. "channels" stands for the
        axis of the channels, and a tuple of texts for one of them.
      inputs: Names of the layers before it.
      path: Our path of the layer with the same weights; () if it has none.
    """

    name: str
    class_name: str
    settings: dict[str, Any]
    inputs: tuple[str, ...]
    path: ArrayPath = ()

    @property
    def described(self) -> str:
        """Its class and settings, for people."""
        inside = ", ".join(f"{name}={_text(value)}" for name, value in self.settings.items())
        return f"{self.class_name}({inside})"


def _text(value: Any) -> str:
    if isinstance(value, tuple) and value and all(isinstance(item, str) for item in value):
        return " or ".join(value)
    return str(value)


def keras_layers(config: DenseNetConfig, layout: Layout = LAYOUTS["keras"]) -> list[KerasLayer]:
    """Returns the layers of a network, in forward order.

    Args:
      config: The network, without options.
      layout: One whose names of layers are Keras's own.
    """
    return list(_layers(config, layout))


def keras_name(layer: WeightLayer, layout: Layout) -> str:
    """Returns the name of a layer with weights, which the layout repeats as the name of a group."""
    repeated = layout.layer_name(layer, {"conv": 0, "norm": 0, "linear": 0, "prelu": 0}, "params")
    parts = repeated.split("/")
    return "/".join(parts[: len(parts) // 2])


def class_of_default_name(name: str) -> str:
    """Returns the class that Keras names so if nobody does: "dropout" of "dropout_3"."""
    return re.sub(r"_[1-9][0-9]*$", "", name)


def default_name(class_name: str) -> str:
    """Returns the name that Keras gives the first layer of a class, such as "conv2d"."""
    name = re.sub(r"\W+", "", class_name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def _layers(config: DenseNetConfig, layout: Layout) -> Iterator[KerasLayer]:
    weights = {layer.path: layer for layer in weight_layers(config)}
    conv1_relu = keras_name(weights["conv0",], layout).removesuffix("conv") + "relu"
    relu = {"activation": "relu"}
    last = "input_layer"
    yield KerasLayer(last, "InputLayer", {}, ())

    def one(name: str, class_name: str, settings: dict[str, Any], *inputs: str) -> KerasLayer:
        return KerasLayer(name, class_name, settings, inputs)

    def padding(name: str, pixels: int, before: str) -> KerasLayer:
        amount = ((pixels, pixels), (pixels, pixels))
        return one(name, "ZeroPadding2D", {"padding": amount}, before)

    def norm(path: ArrayPath, before: str) -> KerasLayer:
        settings = {"axis": "channels", "center": True, "scale": True}
        name = keras_name(weights[path], layout)
        return KerasLayer(name, "BatchNormalization", settings, (before,), path)

    def conv(path: ArrayPath, before: str, *, stride: int = 1, groups: int = 1) -> KerasLayer:
        axes = weights[path].axes
        settings = {
            "filters": axes["O"],
            "kernel_size": (axes["H"], axes["W"]),
            "strides": (stride, stride),
            "padding": ("valid", "same") if axes["H"] == 1 else "valid" if stride > 1 else "same",
            "dilation_rate": (1, 1),
            "groups": groups,
            "activation": "linear",
            "use_bias": False,
        }
        return KerasLayer(keras_name(weights[path], layout), "Conv2D", settings, (before,), path)

    if config.stem == "imagenet":
        stem = [padding("zero_padding2d", 3, last), conv(("conv0",), "zero_padding2d", stride=2)]
        stem.append(norm(("norm0",), stem[-1].name))
        stem.append(one(conv1_relu, "Activation", relu, stem[-1].name))
        stem.append(padding("zero_padding2d_1", 1, conv1_relu))
        pool = {"pool_size": (3, 3), "strides": (2, 2), "padding": "valid"}
        stem.append(one("pool1", "MaxPooling2D", pool, stem[-1].name))
    else:
        stem = [conv(("conv0",), last)]
    yield from stem
    last = stem[-1].name
    path: ArrayPath
    for block, size in enumerate(config.block_sizes, start=1):
        for number in range(1, size + 1):
            name, outer, before = f"conv{block + 1}_block{number}", last, last
            path = (f"denseblock{block}", f"denselayer{number}")
            for part in range(1, config.convolutions_per_layer + 1):
                groups = config.groups if part == config.convolutions_per_layer else 1
                yield (normed := norm((*path, f"norm{part}"), before))
                yield (active := one(f"{name}_{part - 1}_relu", "Activation", relu, normed.name))
                yield (added := conv((*path, f"conv{part}"), active.name, groups=groups))
                before = added.name
            last = f"{name}_concat"
            yield one(last, "Concatenate", {"axis": "channels"}, outer, before)
        if block < len(config.block_sizes):
            name, path = f"pool{block + 1}", (f"transition{block}",)
            yield (normed := norm((*path, "norm"), last))
            yield (active := one(f"{name}_relu", "Activation", relu, normed.name))
            yield (added := conv((*path, "conv"), active.name))
            kind = "AveragePooling2D" if config.transition_pool == "avg" else "MaxPooling2D"
            pool = {"pool_size": (2, 2), "strides": (2, 2), "padding": "valid"}
            last = f"{name}_pool"
            yield one(last, kind, pool, added.name)
    yield (normed := norm(("norm5",), last))
    yield one("relu", "Activation", relu, normed.name)
    yield one("avg_pool", "GlobalAveragePooling2D", {"keepdims": False}, "relu")
    head = {"units": config.num_classes, "activation": HEAD_ACTIVATIONS, "use_bias": True}
    name = keras_name(weights["classifier",], layout)
    yield KerasLayer(name, "Dense", head, ("avg_pool",), ("classifier",))
