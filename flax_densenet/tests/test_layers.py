"""Tests of flax_densenet/network/layers.py: the flat list against the modules that are built."""

from collections.abc import Callable
from typing import Any

import pytest
from flax import traverse_util

from flax_densenet import VARIANTS, DenseNetConfig, count_parameters
from flax_densenet.network.layers import WeightLayer, weight_layers

CONFIGS = {
    "plain": DenseNetConfig(depth=10, growth_rate=3),
    "B": DenseNetConfig(depth=16, growth_rate=3, bottleneck=True, bottleneck_factor=2),
    "C": DenseNetConfig(depth=10, growth_rate=3, compression=0.3),
    "BC": DenseNetConfig(depth=16, growth_rate=3, bottleneck=True, compression=0.5),
    "unequal blocks": DenseNetConfig(blocks=(1, 3), growth_rate=2, in_channels=4, num_classes=7),
    "imagenet stem": DenseNetConfig(blocks=(2, 1, 3, 1), growth_rate=2, stem="imagenet"),
    "wide stem": DenseNetConfig(depth=7, growth_rate=2, stem_width=5),
    "all options": DenseNetConfig(
        blocks=(1, 2),
        growth_rate=4,
        bottleneck=True,
        activation="prelu",
        order="conv-norm-act",
        transition_pool="max",
        kernel_size=5,
        groups=2,
        attention="se",
        attention_reduction=2,
    ),
    "one block": DenseNetConfig(blocks=(2,), growth_rate=2),
    "densenet121": VARIANTS["densenet121"],
}


def arrays_of(layer: WeightLayer) -> dict[tuple[str, ...], tuple[int, ...]]:
    axes = layer.axes
    match layer.kind:
        case "conv":
            shape = (axes["H"], axes["W"], axes["I"], axes["O"])
            return {("params", *layer.path, "kernel"): shape}
        case "norm":
            names = [("params", "scale"), ("params", "bias")]
            names += [("batch_stats", "mean"), ("batch_stats", "var")]
            return {(first, *layer.path, last): (axes["C"],) for first, last in names}
        case "linear":
            return {
                ("params", *layer.path, "kernel"): (axes["I"], axes["O"]),
                ("params", *layer.path, "bias"): (axes["O"],),
            }
        case "prelu":
            return {("params", *layer.path, "slope"): (1,)}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_paths_and_shapes_are_those_of_the_modules(
    config: DenseNetConfig, model_shapes: Callable[[DenseNetConfig], dict[str, Any]]
) -> None:
    built = traverse_util.flatten_dict(model_shapes(config))
    listed: dict[tuple[str, ...], tuple[int, ...]] = {}
    for layer in weight_layers(config):
        listed |= arrays_of(layer)
    assert listed == {path: leaf.shape for path, leaf in built.items()}


def test_layers_are_in_forward_order() -> None:
    config = DenseNetConfig(blocks=(1, 1), growth_rate=2, bottleneck=True, stem="imagenet")
    assert ["/".join(layer.path) for layer in weight_layers(config)] == [
        "conv0",
        "norm0",
        "denseblock1/denselayer1/norm1",
        "denseblock1/denselayer1/conv1",
        "denseblock1/denselayer1/norm2",
        "denseblock1/denselayer1/conv2",
        "transition1/norm",
        "transition1/conv",
        "denseblock2/denselayer1/norm1",
        "denseblock2/denselayer1/conv1",
        "denseblock2/denselayer1/norm2",
        "denseblock2/denselayer1/conv2",
        "norm5",
        "classifier",
    ]


def test_parameters_of_one_layer_add_up() -> None:
    config = DenseNetConfig(blocks=(1,), growth_rate=2, in_channels=1, num_classes=3)
    stem, norm1, conv1 = 3 * 3 * 1 * 16, 2 * 16, 3 * 3 * 16 * 2
    norm5, classifier = 2 * 18, 18 * 3 + 3
    assert count_parameters(config) == stem + norm1 + conv1 + norm5 + classifier
