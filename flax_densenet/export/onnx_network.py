"""DenseNet as an ONNX graph: `flax_densenet/model.py` once more, in evaluation.

Axes: B batch, C channels, H height, W width, K classes; images are [B, C, H, W].

Operations and weights have torchvision's names (docs/decisions/0011-onnx.md).
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnxruntime
from onnx import TensorProto, checker, helper

from flax_densenet.config import DenseNetConfig
from flax_densenet.export.interface import INPUT_NAME, OUTPUT_NAME, Interface
from flax_densenet.export.onnx_graph import Graph
from flax_densenet.weights import to_torch_arrays


def to_onnx(
    config: DenseNetConfig,
    variables: Mapping[str, Any],
    interface: Interface,
    description: Mapping[str, Any],
) -> bytes:
    """Returns the serialized model.

    Args:
      config: The network.
      variables: {"params", "batch_stats"}.
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
    """Adds the network behind a normalized image and returns the logits [B, K]."""
    if cfg.stem == "imagenet":
        x = _conv(graph, x, "features.conv0", size=7, stride=2)
        x = _norm_relu(graph, cfg, x, "features.norm0")
        window: dict[str, Any] = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}
        x = graph.add("MaxPool", [x], "features.pool0", **window)
    else:
        x = _conv(graph, x, "features.conv0", size=3)
    last_block = len(cfg.block_sizes)
    for block, num_layers in enumerate(cfg.block_sizes, start=1):
        x = _dense_block(graph, cfg, x, f"features.denseblock{block}", num_layers)
        if block != last_block:
            x = _transition(graph, cfg, x, f"features.transition{block}")
    x = _norm_relu(graph, cfg, x, "features.norm5")
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
    y = _norm_relu(graph, cfg, x, f"{name}.norm1")
    if cfg.bottleneck:
        y = _conv(graph, y, f"{name}.conv1", size=1)
        y = _norm_relu(graph, cfg, y, f"{name}.norm2")
        return _conv(graph, y, f"{name}.conv2", size=3)
    return _conv(graph, y, f"{name}.conv1", size=3)


def _transition(graph: Graph, cfg: DenseNetConfig, x: str, name: str) -> str:
    x = _norm_relu(graph, cfg, x, f"{name}.norm")
    x = _conv(graph, x, f"{name}.conv", size=1)
    return graph.add("AveragePool", [x], f"{name}.pool", kernel_shape=[2, 2], strides=[2, 2])


def _joined(graph: Graph, features: list[str], name: str) -> str:
    if len(features) == 1:
        return features[0]
    return graph.add("Concat", features, f"{name}.concat", axis=1)


def _conv(graph: Graph, x: str, name: str, *, size: int, stride: int = 1) -> str:
    return graph.add(
        "Conv",
        [x, *graph.weights(name, "weight")],
        name,
        kernel_shape=[size, size],
        strides=[stride, stride],
        pads=[size // 2] * 4,
    )


def _norm_relu(graph: Graph, cfg: DenseNetConfig, x: str, name: str) -> str:
    weights = graph.weights(name, "weight", "bias", "running_mean", "running_var")
    x = graph.add("BatchNormalization", [x, *weights], name, epsilon=cfg.batch_norm_epsilon)
    return graph.add("Relu", [x], name.replace("norm", "relu"))
