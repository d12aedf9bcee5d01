"""Tests of flax_densenet/summary/operations.py: by hand, against the modules and against XLA."""

import dataclasses
import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from flax import traverse_util
from jax import lax

from flax_densenet import DenseNet, DenseNetConfig, InputError
from flax_densenet.network import activation
from flax_densenet.network.layers import weight_layers
from flax_densenet.summary.operation import Operation
from flax_densenet.summary.operations import list_operations

PLAIN = DenseNetConfig(blocks=(2,), growth_rate=2, in_channels=1, num_classes=3)
CASES = {
    "plain, odd": (DenseNetConfig(depth=10, growth_rate=4), 9, 11),
    "plain, even": (DenseNetConfig(depth=10, growth_rate=4), 8, 8),
    "BC": (DenseNetConfig(blocks=(2, 3), growth_rate=4, bottleneck=True, compression=0.3), 9, 7),
    "ImageNet": (
        DenseNetConfig(blocks=(2, 1, 2, 1), growth_rate=4, bottleneck=True, stem="imagenet"),
        64,
        48,
    ),
    "ImageNet, odd, gray": (
        DenseNetConfig(blocks=(1, 2), growth_rate=3, stem="imagenet", in_channels=1),
        17,
        23,
    ),
    "leaky ReLU, maximum, 5x5": (
        DenseNetConfig(
            blocks=(2, 1),
            growth_rate=4,
            activation="leaky_relu",
            transition_pool="max",
            kernel_size=5,
        ),
        9,
        11,
    ),
    "PReLU, groups, attention": (
        DenseNetConfig(
            blocks=(2, 1),
            growth_rate=4,
            bottleneck=True,
            activation="prelu",
            groups=2,
            attention="se",
            attention_reduction=2,
        ),
        8,
        8,
    ),
    "convolutions first, sigmoid, groups, attention": (
        DenseNetConfig(
            blocks=(2, 1),
            growth_rate=4,
            order="conv-norm-act",
            activation="sigmoid",
            groups=4,
            attention="se",
        ),
        9,
        7,
    ),
    "ImageNet, convolutions first, tanh": (
        DenseNetConfig(
            blocks=(1, 2),
            growth_rate=4,
            bottleneck=True,
            compression=0.5,
            stem="imagenet",
            order="conv-norm-act",
            activation="tanh",
        ),
        17,
        23,
    ),
}


def test_tiny_net_is_counted_by_hand() -> None:
    layer1, layer2 = ("denseblock1", "denselayer1"), ("denseblock1", "denselayer2")
    pixels = 4 * 5
    assert list_operations(PLAIN, height=4, width=5) == [
        Operation(("image",), "image", (4, 5, 1)),
        Operation(("conv0",), "convolution", (4, 5, 16), 144, pixels * 144, 2 * pixels * 144),
        Operation((*layer1, "norm1"), "batch norm", (4, 5, 16), 32, 0, 3 * pixels * 16 + 32),
        Operation((*layer1, "relu1"), "ReLU", (4, 5, 16), 0, 0, pixels * 16),
        Operation((*layer1, "conv1"), "convolution", (4, 5, 2), 288, pixels * 288, pixels * 576),
        Operation((*layer2, "concat"), "concatenation", (4, 5, 18)),
        Operation((*layer2, "norm1"), "batch norm", (4, 5, 18), 36, 0, 3 * pixels * 18 + 36),
        Operation((*layer2, "relu1"), "ReLU", (4, 5, 18), 0, 0, pixels * 18),
        Operation((*layer2, "conv1"), "convolution", (4, 5, 2), 324, pixels * 324, pixels * 648),
        Operation(("denseblock1", "concat"), "concatenation", (4, 5, 20)),
        Operation(("norm5",), "batch norm", (4, 5, 20), 40, 0, 3 * pixels * 20 + 40),
        Operation(("relu5",), "ReLU", (4, 5, 20), 0, 0, pixels * 20),
        Operation(("global_pool",), "average pool", (20,), 0, 0, pixels * 20),
        Operation(("classifier",), "linear", (3,), 63, 60, 123),
    ]


def test_imagenet_net_has_its_stem_bottlenecks_and_transitions() -> None:
    config = DenseNetConfig(
        blocks=(1, 1), growth_rate=2, bottleneck=True, compression=0.5, stem="imagenet"
    )
    layers = [
        [
            (f"denseblock{block}.denselayer1.norm1", "batch norm", (*size, channels)),
            (f"denseblock{block}.denselayer1.relu1", "ReLU", (*size, channels)),
            (f"denseblock{block}.denselayer1.conv1", "convolution", (*size, 8)),
            (f"denseblock{block}.denselayer1.norm2", "batch norm", (*size, 8)),
            (f"denseblock{block}.denselayer1.relu2", "ReLU", (*size, 8)),
            (f"denseblock{block}.denselayer1.conv2", "convolution", (*size, 2)),
            (f"denseblock{block}.concat", "concatenation", (*size, channels + 2)),
        ]
        for block, size, channels in ((1, (5, 6), 4), (2, (2, 3), 3))
    ]
    operations = list_operations(config, height=17, width=23)
    assert [(operation.name, operation.kind, operation.shape) for operation in operations] == [
        ("image", "image", (17, 23, 3)),
        ("conv0", "convolution", (9, 12, 4)),
        ("norm0", "batch norm", (9, 12, 4)),
        ("relu0", "ReLU", (9, 12, 4)),
        ("pool0", "maximum pool", (5, 6, 4)),
        *layers[0],
        ("transition1.norm", "batch norm", (5, 6, 6)),
        ("transition1.relu", "ReLU", (5, 6, 6)),
        ("transition1.conv", "convolution", (5, 6, 3)),
        ("transition1.pool", "average pool", (2, 3, 3)),
        *layers[1],
        ("norm5", "batch norm", (2, 3, 5)),
        ("relu5", "ReLU", (2, 3, 5)),
        ("global_pool", "average pool", (5,)),
        ("classifier", "linear", (10,)),
    ]
    assert [operation.flops for operation in operations if operation.kind == "maximum pool"] == [
        5 * 6 * 4 * 8
    ]


@pytest.mark.parametrize(
    ("stem", "dropouts"),
    [
        ("cifar", ["dropout1", "dropout2", "dropout", "dropout1", "dropout2"]),
        ("imagenet", ["dropout2", "dropout2"]),
    ],
)
def test_dropout_is_where_the_network_has_it(stem: Any, dropouts: list[str]) -> None:
    config = DenseNetConfig(
        blocks=(1, 1), growth_rate=2, bottleneck=True, stem=stem, dropout_rate=0.1
    )
    names = [
        operation.path[-1]
        for operation in list_operations(config, height=32, width=32)
        if operation.kind == "dropout"
    ]
    assert names == dropouts


@pytest.mark.parametrize(("config", "height", "width"), CASES.values(), ids=CASES)
def test_layers_and_parameters_are_those_of_the_flat_list(
    config: DenseNetConfig, height: int, width: int
) -> None:
    operations = list_operations(config, height=height, width=width)
    with_weights = [(o.path, o.parameters) for o in operations if o.parameters]
    assert with_weights == [(layer.path, layer.num_parameters) for layer in weight_layers(config)]


@pytest.mark.parametrize(("config", "height", "width"), CASES.values(), ids=CASES)
def test_outputs_have_the_shapes_of_the_modules(
    config: DenseNetConfig, height: int, width: int
) -> None:
    model, image = (
        DenseNet(config, implementation="plain"),
        jnp.zeros((1, height, width, config.in_channels)),
    )

    def outputs() -> Any:
        variables = model.init(jax.random.key(0), image, train=False)
        return model.apply(
            variables, image, train=False, capture_intermediates=True, mutable=["intermediates"]
        )[1]

    captured = traverse_util.flatten_dict(jax.eval_shape(outputs)["intermediates"])
    shapes = {path[:-1]: value[0].shape[1:] for path, value in captured.items()}
    operations = {o.path: o.shape for o in list_operations(config, height=height, width=width)}
    assert len(set(shapes) & set(operations)) >= len(weight_layers(config))
    for path in set(shapes) & set(operations):
        assert shapes[path] == operations[path], path
    for block in range(1, len(config.block_sizes) + 1):
        joined = operations[(f"denseblock{block}", "concat")]
        assert shapes[(f"denseblock{block}",)] == joined
    for transition in range(1, len(config.block_sizes)):
        pooled = operations[(f"transition{transition}", "pool")]
        assert shapes[(f"transition{transition}",)] == pooled


@pytest.fixture(autouse=True)
def relu_of_one_operation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has XLA count one operation for a ReLU: ours, which keeps NaN, compares and then chooses."""
    monkeypatch.setitem(activation._FUNCTIONS, "relu", jax.nn.relu)


def inner_multiply_adds(
    config: DenseNetConfig, before: Operation, convolution: Operation
) -> tuple[int, int, int]:
    """Multiply-adds without those of zero padding, which XLA does not count; kernel and stride."""
    (layer,) = [layer for layer in weight_layers(config) if layer.path == convolution.path]
    kernel, inputs = layer.axes["H"], layer.axes["I"]
    stride = 2 if kernel == 7 else 1
    taps = [
        sum(
            0 <= stride * output + tap - kernel // 2 < length
            for output in range(outputs)
            for tap in range(kernel)
        )
        for length, outputs in zip(before.shape[:2], convolution.shape[:2], strict=True)
    ]
    return math.prod(taps) * inputs * convolution.shape[2], kernel, stride


def xla_flops(function: Any, *arguments: Any) -> float:
    costs = jax.jit(function).lower(*arguments).cost_analysis()
    assert costs is not None
    return costs["flops"]


def array(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)


@pytest.mark.parametrize(("config", "height", "width"), CASES.values(), ids=CASES)
def test_each_convolution_and_the_linear_layer_has_the_flops_that_xla_counts(
    config: DenseNetConfig, height: int, width: int
) -> None:
    operations = list_operations(config, height=height, width=width)
    for before, operation in itertools.pairwise(operations):
        if operation.kind == "convolution":
            inner, kernel, stride = inner_multiply_adds(config, before, operation)

            def convolve(x: jax.Array, k: jax.Array, stride: int = stride) -> jax.Array:
                pad = (k.shape[0] // 2, k.shape[0] // 2)
                return lax.conv_general_dilated(
                    x,
                    k,
                    (stride, stride),
                    (pad, pad),
                    dimension_numbers=("NHWC", "HWIO", "NHWC"),
                    feature_group_count=x.shape[3] // k.shape[2],
                )

            groups = config.groups if kernel > 1 and operation.dense_layer else 1
            inputs, outputs = before.shape[2] // groups, operation.shape[2]
            kernel_array = array(kernel, kernel, inputs, outputs)
            assert xla_flops(convolve, array(1, *before.shape), kernel_array) == 2 * inner
            full = math.prod(operation.shape) * kernel**2 * inputs
            assert operation.multiply_adds == full == operation.flops // 2
            assert inner == full if kernel == 1 else inner < full
        elif operation.kind == "linear":
            (inputs,), (outputs,) = before.shape, operation.shape
            arrays = array(1, inputs), array(inputs, outputs), array(outputs)
            assert xla_flops(lambda x, k, b: x @ k + b, *arrays) == operation.flops


@pytest.mark.parametrize(("config", "height", "width"), CASES.values(), ids=CASES)
def test_network_has_the_flops_that_xla_counts(
    config: DenseNetConfig, height: int, width: int
) -> None:
    model = DenseNet(config, implementation="plain")
    image = array(1, height, width, config.in_channels)
    variables = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), image)
    operations = list_operations(config, height=height, width=width)
    padding = sum(
        operation.multiply_adds - inner_multiply_adds(config, before, operation)[0]
        for before, operation in itertools.pairwise(operations)
        if operation.kind == "convolution"
    )
    ours = sum(operation.flops for operation in operations)
    counted = xla_flops(lambda v, x: model.apply(v, x, train=False), variables, image)
    assert counted == ours - 2 * padding


def test_images_that_are_too_small_are_refused() -> None:
    config = dataclasses.replace(PLAIN, blocks=(1, 1, 1))
    with pytest.raises(InputError, match=r"image is 4x3 pixels, but .* needs at least 4x4"):
        list_operations(config, height=4, width=3)
