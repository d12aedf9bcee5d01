"""Every operation of the network in forward order, with its output, parameters and FLOPs.

Axes: H height, W width, C channels. All numbers are those of one image in evaluation.

A multiplication and an addition are two FLOPs. As usual, a convolution counts its zero padding like
any other pixel. The field's tables (torchvision's GFLOPS) give multiply-adds instead, those of the
convolutions and the linear layer, and nothing else.

| operation | FLOPs for each number of its output |
|---|---|
| convolution with a kernel of h x w, I input channels | 2 h w I |
| batch normalization, (x - mean) factor + bias | 3, and 2 for the factor of each channel |
| ReLU | 1 |
| maximum of h x w | h w - 1 |
| mean of h x w | h w |
| linear layer with a bias, I input channels | 2 I + 1 |
| image, concatenation, dropout (not active) | 0 |
"""

import math
from collections.abc import Iterator
from typing import Literal, NamedTuple

from flax_densenet.config import DenseNetConfig
from flax_densenet.layers import WeightLayer, weight_layers

OperationKind = Literal[
    "image",
    "convolution",
    "batch norm",
    "ReLU",
    "concatenation",
    "dropout",
    "maximum pool",
    "average pool",
    "linear",
]


class Operation(NamedTuple):
    """One operation.

    Attributes:
      path: Names from the root; torchvision's, where it has a module for the operation.
      kind: What it does.
      shape: Shape of the output: (H, W, C), and (C,) after the last pooling.
      parameters: Trainable parameters.
      multiply_adds: Multiplications with an addition, in convolutions and the linear layer.
      flops: Floating-point operations.
    """

    path: tuple[str, ...]
    kind: OperationKind
    shape: tuple[int, ...]
    parameters: int = 0
    multiply_adds: int = 0
    flops: int = 0

    @property
    def name(self) -> str:
        """The path as one word, such as "denseblock1.denselayer2.conv1"."""
        return ".".join(self.path)

    @property
    def size(self) -> int:
        """Numbers in the output."""
        return math.prod(self.shape)

    @property
    def dense_layer(self) -> tuple[str, ...]:
        """Path of the dense layer around it; empty outside of them."""
        return self.path[:2] if len(self.path) == 3 else ()


def list_operations(config: DenseNetConfig, *, height: int, width: int) -> list[Operation]:
    """Returns every operation, in forward order.

    Args:
      config: The network.
      height: Image height in pixels.
      width: Image width in pixels.

    Raises:
      InputError: The image is too small.
    """
    config.check_image(height=height, width=width, channels=config.in_channels)
    return list(_walk(config, (height, width)))


def _walk(config: DenseNetConfig, size: tuple[int, int]) -> Iterator[Operation]:
    """Yields the layers that hold weights, and between them the operations that hold none."""
    layers = iter(weight_layers(config))
    drops = config.dropout_rate > 0
    drops_others = drops and config.drops_every_convolution
    yield Operation(("image",), "image", (*size, config.in_channels))
    if config.stem == "imagenet":
        size = _half(size)
        yield from _convolution(next(layers), size)
        norm = next(layers)
        yield from _norm_relu(norm, size)
        size = _half(size)
        yield _per_number(("pool0",), "maximum pool", (*size, norm.axes["C"]), 3 * 3 - 1)
    else:
        yield from _convolution(next(layers), size)
    last_block = len(config.block_sizes)
    for block, num_layers in enumerate(config.block_sizes, start=1):
        for number in range(1, num_layers + 1):
            norm = next(layers)
            if number > 1:
                yield _concatenation(norm.path[:2], norm, size)
            yield from _norm_relu(norm, size)
            if config.bottleneck:
                yield from _convolution(next(layers), size, drops_others)
                yield from _norm_relu(next(layers), size)
            yield from _convolution(next(layers), size, drops)
        norm = next(layers)
        yield _concatenation((f"denseblock{block}",), norm, size)
        yield from _norm_relu(norm, size)
        if block != last_block:
            conv = next(layers)
            yield from _convolution(conv, size, drops_others)
            size = (size[0] // 2, size[1] // 2)
            path, shape = (*conv.path[:-1], "pool"), (*size, conv.axes["O"])
            yield _per_number(path, "average pool", shape, 2 * 2)
    linear = next(layers)
    inputs, outputs = linear.axes["I"], linear.axes["O"]
    yield _per_number(("global_pool",), "average pool", (inputs,), math.prod(size))
    multiply_adds = inputs * outputs
    flops = 2 * multiply_adds + outputs
    yield Operation(linear.path, "linear", (outputs,), linear.num_parameters, multiply_adds, flops)


def _half(size: tuple[int, int]) -> tuple[int, int]:
    """Returns the output size of the stem's convolution and pooling, which round up."""
    return ((size[0] + 1) // 2, (size[1] + 1) // 2)


def _convolution(
    layer: WeightLayer, size: tuple[int, int], drops: bool = False
) -> Iterator[Operation]:
    axes = layer.axes
    shape = (*size, axes["O"])
    multiply_adds = math.prod(shape) * axes["H"] * axes["W"] * axes["I"]
    yield Operation(
        layer.path, "convolution", shape, layer.num_parameters, multiply_adds, 2 * multiply_adds
    )
    if drops:
        *place, name = layer.path
        yield Operation((*place, name.replace("conv", "dropout")), "dropout", shape)


def _norm_relu(layer: WeightLayer, size: tuple[int, int]) -> Iterator[Operation]:
    shape = (*size, layer.axes["C"])
    flops = 3 * math.prod(shape) + 2 * layer.axes["C"]
    yield Operation(layer.path, "batch norm", shape, layer.num_parameters, flops=flops)
    *place, name = layer.path
    yield _per_number((*place, name.replace("norm", "relu")), "ReLU", shape, 1)


def _concatenation(place: tuple[str, ...], norm: WeightLayer, size: tuple[int, int]) -> Operation:
    """Joins the feature maps that `norm` reads."""
    return Operation((*place, "concat"), "concatenation", (*size, norm.axes["C"]))


def _per_number(
    path: tuple[str, ...], kind: OperationKind, shape: tuple[int, ...], flops: int
) -> Operation:
    return Operation(path, kind, shape, flops=flops * math.prod(shape))
