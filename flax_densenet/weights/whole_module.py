"""Checks that a module of PyTorch that was saved whole computes a DenseNet.

Its code is not in the file and would not be run. So its classes must be those of torchvision or
torchxrayvision, whose forward pass is known, and in them must stand what stands there by default.
"""

import dataclasses
import itertools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from flax_densenet.errors import InputError
from flax_densenet.network.config import DenseNetConfig
from flax_densenet.network.layers import ArrayPath
from flax_densenet.weights.files.modules import ModuleNode
from flax_densenet.weights.files.torch_archive import SAVE_AGAIN
from flax_densenet.weights.layouts import LAYOUTS

XRAY_CLASS = "torchxrayvision.models.DenseNet"
_XRAY_SIZE = 224
_DENSENETS = ("torchvision.models.densenet.DenseNet", XRAY_CLASS)
_WRAPPERS = ("torch.nn.parallel.data_parallel.DataParallel",)
_DENSE_LAYER = {  # names in a dense layer, by the layout
    "torchvision": ("norm1", "relu1", "conv1", "norm2", "relu2", "conv2"),
    "torchvision-2017": ("norm.1", "relu.1", "conv.1", "norm.2", "relu.2", "conv.2"),
}
_CLASSES = {"norm": "BatchNorm2d", "relu": "ReLU", "conv": "Conv2d"}
_KERNELS = {7: {"stride": 2, "padding": 3}, 3: {"stride": 1, "padding": 1}, 1: {"padding": 0}}
_SETTINGS: dict[str, dict[str, Any]] = {
    "Conv2d": {"stride": 1, "dilation": 1, "groups": 1, "padding_mode": "zeros"},
    "BatchNorm2d": {"affine": True, "track_running_stats": True},
    "MaxPool2d": {
        "kernel_size": 3,
        "stride": 2,
        "padding": 1,
        "dilation": 1,
        "ceil_mode": False,
    },
    "AvgPool2d": {"kernel_size": 2, "stride": 2, "padding": 0, "ceil_mode": False},
}
_HEAD = re.compile(r"(Dropout )*Linear (Dropout )*(Sigmoid |Softmax |LogSoftmax )?")


class WholeModule(NamedTuple):
    """What a module says beyond its arrays.

    Attributes:
      config: The network, with the epsilon and momentum of its batch normalizations.
      class_name: Full name of its class.
      settings: Its plain attributes.
      ends_in_sigmoid: Whether a sigmoid follows the classifier.
    """

    config: DenseNetConfig
    class_name: str
    settings: dict[str, Any]
    ends_in_sigmoid: bool


def check_whole_module(
    path: Path,
    modules: Mapping[ArrayPath, ModuleNode],
    place: tuple[ArrayPath, str],
    config: DenseNetConfig,
    layout: str,
) -> WholeModule | None:
    """Returns what a module says if the weights are a module's.

    Args:
      path: The file.
      modules: All modules in it.
      place: Path of the weights' container, and the prefix of their names.
      config: The network that the weights show.
      layout: Key of `LAYOUTS`.

    Returns:
      What it says; None if the weights are a state dict's.

    Raises:
      InputError: It computes something else, or what it computes is not known.
    """
    group, prefix = place
    nodes = {keys[-1]: node for keys, node in modules.items() if keys[:-1] == group}
    if not nodes:
        return None
    root = prefix.rstrip(".")
    words = root.split(".") if root else []
    try:
        for wrapper in (".".join(words[:end]) for end in range(len(words))):
            if _full_class(nodes.get(wrapper)) not in _WRAPPERS:
                raise _Other(f"the network is in a {_full_class(nodes.get(wrapper))}")
        class_name = _full_class(nodes.get(root))
        if class_name not in _DENSENETS or layout not in _DENSE_LAYER:
            raise _Other(f"its class is {class_name}, with {LAYOUTS[layout].title}'s names")
        inner = {
            name.removeprefix(prefix): node
            for name, node in nodes.items()
            if name.startswith(prefix) and name != root
        }
        body = {
            name: node for name, node in inner.items() if name.partition(".")[0] != "classifier"
        }
        upsample = body.get("upsample")
        if class_name == XRAY_CLASS and upsample is not None and _is_to_xray_size(upsample):
            del body["upsample"]  # images are prepared in this size
        _check_body(body, config, layout)
        for name, node in nodes.items():
            if node.has_hooks:
                raise _Other(f"{name or 'it'} calls functions in its forward pass (hooks)")
        epsilon = _of_all(body, "eps")
        momentum = _of_all(body, "momentum")
        ends_in_sigmoid = _ends_in_sigmoid(inner)
    except _Other as error:
        raise InputError(
            f"{path} holds a whole module that cannot be told to be a DenseNet: {error}; its code "
            f"is not run; {SAVE_AGAIN}, if it is one all the same"
        ) from error
    config = dataclasses.replace(config, batch_norm_epsilon=epsilon, batch_norm_momentum=momentum)
    return WholeModule(config, class_name, nodes[root].settings, ends_in_sigmoid)


class _Other(Exception):
    """The module computes something else."""


def _full_class(node: ModuleNode | None) -> str:
    return "nothing" if node is None else node.class_name


def _class(node: ModuleNode | None) -> str:
    return _full_class(node).rpartition(".")[2]


def _is_to_xray_size(node: ModuleNode) -> bool:
    return _class(node) == "Upsample" and _single(node.settings.get("size")) == _XRAY_SIZE


def _check_body(body: Mapping[str, ModuleNode], config: DenseNetConfig, layout: str) -> None:
    wanted = _body(config.block_sizes, _DENSE_LAYER[layout])
    nothing = ("nothing", "nothing")
    found = [(name, _class(node)) for name, node in body.items()]
    for right, got in itertools.zip_longest(wanted.items(), found, fillvalue=nothing):
        if got != right:
            raise _Other("{} ({}) stands where a DenseNet has {} ({})".format(*got, *right))
    for name, node in body.items():
        settings = _SETTINGS.get(_class(node), {})
        if "kernel_size" in node.settings and _class(node) == "Conv2d":
            settings = settings | _KERNELS.get(_single(node.settings["kernel_size"]), {})
        for setting, right in settings.items():
            value = _single(node.settings.get(setting, right))
            if value != right:
                raise _Other(f"{name} has {setting} {value}, where a DenseNet has {right}")


def _body(block_sizes: tuple[int, ...], dense_layer: tuple[str, ...]) -> dict[str, str]:
    """Returns the class of each module before the classifier, in forward order."""
    body = {"": "Sequential", ".conv0": "Conv2d", ".norm0": "BatchNorm2d"}
    body |= {".relu0": "ReLU", ".pool0": "MaxPool2d"}
    for block, size in enumerate(block_sizes, start=1):
        body[f".denseblock{block}"] = "_DenseBlock"
        for layer in range(1, size + 1):
            inside = f".denseblock{block}.denselayer{layer}"
            body[inside] = "_DenseLayer"
            body |= {f"{inside}.{name}": _CLASSES[name[:4]] for name in dense_layer}
        if block < len(block_sizes):
            between = f".transition{block}"
            body[between] = "_Transition"
            body |= {f"{between}.{name}": _CLASSES[name] for name in ("norm", "relu", "conv")}
            body[f"{between}.pool"] = "AvgPool2d"
    body[".norm5"] = "BatchNorm2d"
    return {f"features{name}": class_name for name, class_name in body.items()}


def _single(value: Any) -> Any:
    """Returns the one number of (3, 3), and any other value as it is."""
    if isinstance(value, list | tuple) and len(value) > 0 and set(value) == {value[0]}:
        return value[0]
    return value


def _of_all(body: Mapping[str, ModuleNode], setting: str) -> float:
    values = {n.settings.get(setting) for n in body.values() if _class(n) == "BatchNorm2d"}
    value = values.pop()
    if values or not isinstance(value, float):
        values.add(value)
        raise _Other(f"its batch normalizations have {setting} {', '.join(map(str, values))}")
    return value


def _ends_in_sigmoid(inner: Mapping[str, ModuleNode]) -> bool:
    head = [_class(node) for name, node in inner.items() if name.startswith("classifier")]
    if head[:1] == ["Sequential"]:
        head = head[1:]
    if not _HEAD.fullmatch("".join(f"{name} " for name in head)):
        raise _Other(f"its classifier is {', '.join(head)}")
    return head[-1] == "Sigmoid"
