"""DenseNet as an ONNX graph, to be read beside `flax_densenet/network/model.py`.

It computes evaluation alone. Operations and weights have torchvision's names
(docs/decisions/0012-onnx.md).

Axes: B batch, C channels, H height, W width, K classes; images are [B, C, H, W].
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnxruntime
from onnx import TensorProto, checker, helper

from flax_densenet.export.interface import INPUT_NAME, OUTPUT_NAME, Interface
from flax_densenet.export.onnx_graph import Graph
from flax_densenet.network.activation import LEAKY_SLOPE
from flax_densenet.network.config import DenseNetConfig
from flax_densenet.weights.table import to_torch_arrays


def to_onnx(
    config: DenseNetConfig,
    variables: Mapping[str, Any],
    interface: Interface,
    description: Mapping[str, Any],
) -> bytes:
    """Returns the serialized model.

    Args:
      config: The network.
      variables: {"params", "batch_stats"}, float32.
      interface: What it takes, with axes "BCHW".
      description: Written into the model's metadata, each entry as JSON.
    """
    graph = Graph(to_torch_arrays(variables, config))
    x = _densenet(graph, config, _normalized(graph, interface))
    assert x == OUTPUT_NAME
    image_type = TensorProto.UINT8 if interface.is_uint8 else TensorProto.FLOAT
    shape = interface.shape("batch", "height", "width")
    model = graph.model(
        helper.make_tensor_value_info(INPUT_NAME, image_type, shape),
        helper.make_tensor_value_info(
            OUTPUT_NAME, TensorProto.FLOAT, ("batch", config.num_classes)
        ),
        {name: json.dumps(value) for name, value in description.items()},
    )
    checker.check_model(model, full_check=True)
    return model.SerializeToString()


def load_onnx(serialized: bytes) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a function from images to logits, computed by ONNX Runtime on the CPU."""
    session = onnxruntime.InferenceSession(serialized, providers=["CPUExecutionProvider"])

    def run(image: np.ndarray) -> np.ndarray:
        (logits,) = session.run([OUTPUT_NAME], {INPUT_NAME: image})
        return np.asarray(logits)

    return run


def _normalized(graph: Graph, interface: Interface) -> str:
    if not (interface.is_uint8 and interface.statistics):
        return INPUT_NAME
    x = graph.add("Cast", [INPUT_NAME], "pixels", to=TensorProto.FLOAT)
    mean, std = (
        graph.constant(name, np.reshape(np.asarray(values, np.float32), (1, -1, 1, 1)))
        for name, values in zip(("mean", "std"), interface.statistics, strict=True)
    )
    return graph.add("Div", [graph.add("Sub", [x, mean], "centered"), std], "normalized")


def _densenet(graph: Graph, cfg: DenseNetConfig, x: str) -> str:
    """Adds the network after a normalized image and returns the logits [B, K]."""
    if cfg.stem == "imagenet":
        x = _conv(graph, x, "features.conv0", size=7, stride=2)
    else:
        x = _conv(graph, x, "features.conv0", size=3)
    if cfg.normalizes_stem:
        x = _norm_act(graph, cfg, x, "features", "0")
    if cfg.stem == "imagenet":
        window: dict[str, Any] = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}
        x = graph.add("MaxPool", [x], "features.pool0", **window)
    last_block = len(cfg.block_sizes)
    for block, num_layers in enumerate(cfg.block_sizes, start=1):
        x = _dense_block(graph, cfg, x, f"features.denseblock{block}", num_layers)
        if block != last_block:
            x = _transition(graph, cfg, x, f"features.transition{block}")
    if cfg.normalizes_head:
        x = _norm_act(graph, cfg, x, "features", "5")
    x = graph.add("GlobalAveragePool", [x], "global_pool")  # [B, C, 1, 1]
    x = graph.add("Flatten", [x], "flatten")  # [B, C]
    weights = graph.weights("classifier", "weight", "bias")
    return graph.add("Gemm", [x, *weights], OUTPUT_NAME, transB=1)


def _dense_block(graph: Graph, cfg: DenseNetConfig, x: str, name: str, num_layers: int) -> str:
    features = [x]
    for number in range(1, num_layers + 1):
        layer = f"{name}.denselayer{number}"
        features.append(_dense_layer(graph, cfg, _joined(graph, features, layer), layer))
    return _joined(graph, features, name)


def _dense_layer(graph: Graph, cfg: DenseNetConfig, x: str, name: str) -> str:
    y = x
    if cfg.bottleneck:
        y = _composite(graph, cfg, y, name, "1", size=1)
    last = str(cfg.convolutions_per_layer)
    y = _composite(graph, cfg, y, name, last, size=cfg.kernel_size, groups=cfg.groups)
    return _squeeze_excitation(graph, y, f"{name}.attention") if cfg.attention == "se" else y


def _transition(graph: Graph, cfg: DenseNetConfig, x: str, name: str) -> str:
    x = _composite(graph, cfg, x, name, "", size=1)
    pool = {"avg": "AveragePool", "max": "MaxPool"}[cfg.transition_pool]
    return graph.add(pool, [x], f"{name}.pool", kernel_shape=[2, 2], strides=[2, 2])


def _joined(graph: Graph, features: list[str], name: str) -> str:
    if len(features) == 1:
        return features[0]
    return graph.add("Concat", features, f"{name}.concat", axis=1)


def _composite(
    graph: Graph,
    cfg: DenseNetConfig,
    x: str,
    name: str,
    number: str,
    *,
    size: int,
    groups: int = 1,
) -> str:
    if cfg.order == "conv-norm-act":
        x = _conv(graph, x, f"{name}.conv{number}", size=size, groups=groups)
        return _norm_act(graph, cfg, x, name, number)
    x = _norm_act(graph, cfg, x, name, number)
    return _conv(graph, x, f"{name}.conv{number}", size=size, groups=groups)


def _conv(graph: Graph, x: str, name: str, *, size: int, stride: int = 1, groups: int = 1) -> str:
    return graph.add(
        "Conv",
        [x, *graph.weights(name, "weight")],
        name,
        kernel_shape=[size, size],
        strides=[stride, stride],
        pads=[size // 2] * 4,
        group=groups,
    )


def _norm_act(graph: Graph, cfg: DenseNetConfig, x: str, name: str, number: str) -> str:
    norm, activation = f"{name}.norm{number}", f"{name}.{cfg.activation}{number}"
    weights = graph.weights(norm, "weight", "bias", "running_mean", "running_var")
    x = graph.add("BatchNormalization", [x, *weights], norm, epsilon=cfg.batch_norm_epsilon)
    match cfg.activation:
        case "relu":
            return graph.add("Relu", [x], activation)
        case "leaky_relu":
            return graph.add("LeakyRelu", [x], activation, alpha=LEAKY_SLOPE)
        case "prelu":
            return graph.add("PRelu", [x, *graph.weights(activation, "weight")], activation)
        case "sigmoid":
            return graph.add("Sigmoid", [x], activation)
        case "tanh":
            return graph.add("Tanh", [x], activation)


def _squeeze_excitation(graph: Graph, x: str, name: str) -> str:
    weights = graph.add("GlobalAveragePool", [x], f"{name}.pool")  # [B, C, 1, 1]
    weights = graph.add("Flatten", [weights], f"{name}.flatten")  # [B, C]
    for layer, function in (("fc1", "Relu"), ("fc2", "Sigmoid")):
        inputs = [weights, *graph.weights(f"{name}.{layer}", "weight", "bias")]
        weights = graph.add("Gemm", inputs, f"{name}.{layer}", transB=1)
        weights = graph.add(function, [weights], f"{name}.{layer}.{function.lower()}")
    axes = graph.constant(f"{name}.axes", np.asarray([2, 3]))
    weights = graph.add("Unsqueeze", [weights, axes], f"{name}.weights")  # [B, C, 1, 1]
    return graph.add("Mul", [x, weights], f"{name}.weighed")
