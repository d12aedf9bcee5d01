"""The network as a flat list: every layer that holds weights, in forward order, with its widths.

It needs no framework. Conversion, initialization and parameter counts read it; the models do not,
so that a test can compare it with what the models really build.
"""

from collections.abc import Iterator
from typing import Literal, NamedTuple

from flax_densenet.config import DenseNetConfig

Kind = Literal["conv", "norm", "linear"]


class WeightLayer(NamedTuple):
    """One convolution, batch normalization or linear layer.

    Attributes:
      path: Names from the root, torchvision's without its leading "features".
      kind: What the layer is.
      axes: Length of each axis: O and I (output and input channels), H and W (kernel) for a
        convolution; O and I for a linear layer; C for a normalization.
    """

    path: tuple[str, ...]
    kind: Kind
    axes: dict[str, int]

    @property
    def num_parameters(self) -> int:
        """Trainable parameters: running statistics are not trained."""
        axes = self.axes
        match self.kind:
            case "conv":
                return axes["O"] * axes["I"] * axes["H"] * axes["W"]
            case "norm":
                return 2 * axes["C"]
            case "linear":
                return axes["O"] * axes["I"] + axes["O"]


def weight_layers(config: DenseNetConfig) -> list[WeightLayer]:
    """Returns every layer that holds weights, in forward order."""
    return list(_walk(config))


def count_parameters(config: DenseNetConfig) -> int:
    """Returns the number of trainable parameters (running statistics are not trained)."""
    return sum(layer.num_parameters for layer in weight_layers(config))


def _walk(config: DenseNetConfig) -> Iterator[WeightLayer]:
    channels = config.stem_channels
    yield _conv(("conv0",), config.in_channels, channels, 7 if config.stem == "imagenet" else 3)
    if config.stem == "imagenet":
        yield _norm(("norm0",), channels)
    last_block = len(config.block_sizes)
    for block, num_layers in enumerate(config.block_sizes, start=1):
        for layer in range(1, num_layers + 1):
            path = (f"denseblock{block}", f"denselayer{layer}")
            yield from _dense_layer(path, channels, config)
            channels += config.growth_rate
        if block != last_block:
            kept = config.transition_channels(channels)
            yield _norm((f"transition{block}", "norm"), channels)
            yield _conv((f"transition{block}", "conv"), channels, kept, 1)
            channels = kept
    yield _norm(("norm5",), channels)
    yield WeightLayer(("classifier",), "linear", {"O": config.num_classes, "I": channels})


def _dense_layer(
    path: tuple[str, ...], channels: int, config: DenseNetConfig
) -> Iterator[WeightLayer]:
    yield _norm((*path, "norm1"), channels)
    if config.bottleneck:
        yield _conv((*path, "conv1"), channels, config.bottleneck_channels, 1)
        yield _norm((*path, "norm2"), config.bottleneck_channels)
        yield _conv((*path, "conv2"), config.bottleneck_channels, config.growth_rate, 3)
    else:
        yield _conv((*path, "conv1"), channels, config.growth_rate, 3)


def _conv(path: tuple[str, ...], inputs: int, outputs: int, kernel: int) -> WeightLayer:
    return WeightLayer(path, "conv", {"O": outputs, "I": inputs, "H": kernel, "W": kernel})


def _norm(path: tuple[str, ...], channels: int) -> WeightLayer:
    return WeightLayer(path, "norm", {"C": channels})
