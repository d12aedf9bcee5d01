"""The network as a flat list of its layers with weights, in forward order.

It needs no framework. Conversion, initialization and parameter counts read it. The modules do not,
so that a test can compare the list with what they really build.

Axes: O output channels, I input channels, H kernel height, W kernel width, C channels, S slopes.
"""

from collections.abc import Iterator
from typing import Literal, NamedTuple

from flax_densenet.network.config import DenseNetConfig

ArrayPath = tuple[str, ...]  # names from the root to an array or a layer
Kind = Literal["conv", "norm", "linear", "prelu"]


class FlaxLeaf(NamedTuple):
    """One array of a layer.

    Attributes:
      collection: Flax collection, "params" or "batch_stats".
      name: Last part of its path.
      axes: Its axes, one letter each.
    """

    collection: str
    name: str
    axes: str


LEAVES: dict[Kind, tuple[FlaxLeaf, ...]] = {
    "conv": (FlaxLeaf("params", "kernel", "HWIO"),),
    "norm": (
        FlaxLeaf("params", "scale", "C"),
        FlaxLeaf("params", "bias", "C"),
        FlaxLeaf("batch_stats", "mean", "C"),
        FlaxLeaf("batch_stats", "var", "C"),
    ),
    "linear": (FlaxLeaf("params", "kernel", "IO"), FlaxLeaf("params", "bias", "O")),
    "prelu": (FlaxLeaf("params", "slope", "S"),),
}


class WeightLayer(NamedTuple):
    """One convolution, batch normalization, linear layer or learned activation.

    Attributes:
      path: Names from the root, torchvision's without its leading "features".
      kind: What the layer is.
      axes: Length of each axis: O and I (output channels, and input channels of a group), H and W
        (kernel) for a convolution; O and I for a linear layer; C for a normalization; S (slopes,
        one) for a PReLU.
    """

    path: ArrayPath
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
            case "prelu":
                return axes["S"]


class FlaxArray(NamedTuple):
    """One array of the network's variables.

    Attributes:
      path: Names from the root: collection, modules, array.
      shape: Its shape.
      kind: Kind of its layer.
    """

    path: ArrayPath
    shape: tuple[int, ...]
    kind: Kind


def flax_arrays(config: DenseNetConfig) -> list[FlaxArray]:
    """Returns every array of the network's variables, in forward order."""
    return [
        FlaxArray(
            (leaf.collection, *layer.path, leaf.name),
            tuple(layer.axes[axis] for axis in leaf.axes),
            layer.kind,
        )
        for layer in weight_layers(config)
        for leaf in LEAVES[layer.kind]
    ]


def weight_layers(config: DenseNetConfig) -> list[WeightLayer]:
    """Returns every layer that holds weights, in forward order."""
    return list(_walk(config))


def count_parameters(config: DenseNetConfig) -> int:
    """Returns the number of trainable parameters (running statistics are not trained)."""
    return sum(layer.num_parameters for layer in weight_layers(config))


def _walk(config: DenseNetConfig) -> Iterator[WeightLayer]:
    channels = config.stem_channels
    yield _conv(("conv0",), config.in_channels, channels, 7 if config.stem == "imagenet" else 3)
    if config.normalizes_stem:
        yield from _norm_act(config, (), "0", channels)
    last_block = len(config.block_sizes)
    for block, num_layers in enumerate(config.block_sizes, start=1):
        for layer in range(1, num_layers + 1):
            path = (f"denseblock{block}", f"denselayer{layer}")
            yield from _dense_layer(path, channels, config)
            channels += config.growth_rate
        if block != last_block:
            kept = config.transition_channels(channels)
            yield from _composite(config, (f"transition{block}",), "", channels, kept, 1)
            channels = kept
    if config.normalizes_head:
        yield from _norm_act(config, (), "5", channels)
    yield _linear(("classifier",), channels, config.num_classes)


def _dense_layer(path: ArrayPath, channels: int, config: DenseNetConfig) -> Iterator[WeightLayer]:
    growth_rate, last = config.growth_rate, str(config.convolutions_per_layer)
    if config.bottleneck:
        yield from _composite(config, path, "1", channels, config.bottleneck_channels, 1)
        channels = config.bottleneck_channels
    size, groups = config.kernel_size, config.groups
    yield from _composite(config, path, last, channels, growth_rate, size, groups)
    if config.attention == "se":
        hidden = config.attention_channels
        yield _linear((*path, "attention", "fc1"), growth_rate, hidden)
        yield _linear((*path, "attention", "fc2"), hidden, growth_rate)


def _composite(
    config: DenseNetConfig,
    path: ArrayPath,
    number: str,
    inputs: int,
    outputs: int,
    kernel: int,
    groups: int = 1,
) -> Iterator[WeightLayer]:
    conv = _conv((*path, f"conv{number}"), inputs, outputs, kernel, groups)
    if config.order == "conv-norm-act":
        yield conv
        yield from _norm_act(config, path, number, outputs)
    else:
        yield from _norm_act(config, path, number, inputs)
        yield conv


def _norm_act(
    config: DenseNetConfig, path: ArrayPath, number: str, channels: int
) -> Iterator[WeightLayer]:
    yield WeightLayer((*path, f"norm{number}"), "norm", {"C": channels})
    if config.activation == "prelu":
        yield WeightLayer((*path, f"prelu{number}"), "prelu", {"S": 1})


def _conv(path: ArrayPath, inputs: int, outputs: int, kernel: int, groups: int = 1) -> WeightLayer:
    axes = {"O": outputs, "I": inputs // groups, "H": kernel, "W": kernel}
    return WeightLayer(path, "conv", axes)


def _linear(path: ArrayPath, inputs: int, outputs: int) -> WeightLayer:
    return WeightLayer(path, "linear", {"O": outputs, "I": inputs})
