"""One operation of the network, with its output, parameters and FLOPs.

All numbers are for one image in evaluation. A multiplication and an addition are two FLOPs. As
usual, a convolution counts its zero padding like any other pixel. Published tables (torchvision's
GFLOPS) give instead the multiply-adds of the convolutions and the linear layer, and nothing else.

Axes: H height, W width, C channels.

| operation | FLOPs for each number of its output |
|---|---|
| convolution with a kernel of h x w, I input channels (of a group) | 2 h w I |
| batch normalization, (x - mean) factor + bias | 3, and 2 for the factor of each channel |
| ReLU | 1 |
| leaky ReLU, PReLU: comparison, product, choice | 3 |
| sigmoid, 1 / (1 + exp(-x)): negation, sum, quotient | 3 |
| tanh | 0 |
| squeeze-and-excitation: weighing of a feature map | 1 |
| maximum of h x w | h w - 1 |
| mean of h x w | h w |
| linear layer with a bias, I input channels | 2 I + 1 |
| image, concatenation, dropout (not active) | 0 |

The exponential in a sigmoid and the tanh are transcendental, which XLA counts apart from FLOPs.
"""

import math
from collections.abc import Iterator
from typing import Literal, NamedTuple

from flax_densenet.network.config import DenseNetConfig
from flax_densenet.network.fields import Activation
from flax_densenet.network.layers import WeightLayer

OperationKind = Literal[
    "image",
    "convolution",
    "batch norm",
    "ReLU",
    "leaky ReLU",
    "PReLU",
    "sigmoid",
    "tanh",
    "concatenation",
    "dropout",
    "maximum pool",
    "average pool",
    "squeeze",
    "excitation",
    "linear",
]
_ACTIVATIONS: dict[Activation, tuple[OperationKind, int]] = {
    "relu": ("ReLU", 1),
    "leaky_relu": ("leaky ReLU", 3),
    "prelu": ("PReLU", 3),
    "sigmoid": ("sigmoid", 3),
    "tanh": ("tanh", 0),
}


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
        return self.path[:2] if len(self.path) > 2 else ()


def convolution(layer: WeightLayer, size: tuple[int, int]) -> Operation:
    """Returns a convolution with an output of the given height and width."""
    axes = layer.axes
    shape = (*size, axes["O"])
    multiply_adds = math.prod(shape) * axes["H"] * axes["W"] * axes["I"]
    return Operation(
        layer.path, "convolution", shape, layer.num_parameters, multiply_adds, 2 * multiply_adds
    )


def norm_act(
    config: DenseNetConfig, layers: Iterator[WeightLayer], size: tuple[int, int]
) -> Iterator[Operation]:
    """Yields a normalization and its activation, of height and width `size`.

    Args:
      config: The network.
      layers: Its layers with weights; the next ones are taken.
      size: Height and width.
    """
    norm = next(layers)
    shape = (*size, norm.axes["C"])
    flops = 3 * math.prod(shape) + 2 * norm.axes["C"]
    yield Operation(norm.path, "batch norm", shape, norm.num_parameters, flops=flops)
    *place, name = norm.path
    path = (*place, name.replace("norm", config.activation))
    kind, flops = _ACTIVATIONS[config.activation]
    slopes = next(layers).num_parameters if config.activation == "prelu" else 0
    yield per_number(path, kind, shape, flops)._replace(parameters=slopes)


def attention(
    layers: Iterator[WeightLayer], path: tuple[str, ...], shape: tuple[int, ...]
) -> Iterator[Operation]:
    """Yields squeeze-and-excitation.

    Args:
      layers: The network's layers with weights; the next ones are taken.
      path: Its place.
      shape: Shape of the feature maps, (H, W, C).
    """
    height, width, channels = shape
    yield per_number((*path, "squeeze"), "squeeze", (channels,), height * width)
    hidden = linear(next(layers))
    yield hidden
    yield per_number((*path, "relu"), "ReLU", hidden.shape, 1)
    yield linear(next(layers))
    yield per_number((*path, "sigmoid"), "sigmoid", (channels,), 3)
    yield per_number((*path, "excitation"), "excitation", shape, 1)


def linear(layer: WeightLayer) -> Operation:
    """Returns a linear layer."""
    inputs, outputs = layer.axes["I"], layer.axes["O"]
    multiply_adds = inputs * outputs
    flops = 2 * multiply_adds + outputs
    return Operation(layer.path, "linear", (outputs,), layer.num_parameters, multiply_adds, flops)


def per_number(
    path: tuple[str, ...], kind: OperationKind, shape: tuple[int, ...], flops: int
) -> Operation:
    """Returns an operation without weights.

    Args:
      path: Its place.
      kind: What it does.
      shape: Shape of its output.
      flops: For each number of its output.
    """
    return Operation(path, kind, shape, flops=flops * math.prod(shape))
