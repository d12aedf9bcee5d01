"""Every operation of the network in forward order.

All numbers are for one image in evaluation.

Axes: H height, W width, C channels.
"""

import math
from collections.abc import Iterator

from flax_densenet.network.config import DenseNetConfig
from flax_densenet.network.layers import WeightLayer, weight_layers
from flax_densenet.summary.operation import (
    Operation,
    attention,
    convolution,
    linear,
    norm_act,
    per_number,
)


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
    channels = config.stem_channels
    yield Operation(("image",), "image", (*size, config.in_channels))
    if config.stem == "imagenet":
        size = _half(size)
    yield convolution(next(layers), size)
    if config.normalizes_stem:
        yield from norm_act(config, layers, size)
    if config.stem == "imagenet":
        size = _half(size)
        yield per_number(("pool0",), "maximum pool", (*size, channels), 3 * 3 - 1)
    last_block = len(config.block_sizes)
    for block, num_layers in enumerate(config.block_sizes, start=1):
        place = (f"denseblock{block}",)
        for number in range(1, num_layers + 1):
            inside = (*place, f"denselayer{number}")
            if number > 1:
                yield Operation((*inside, "concat"), "concatenation", (*size, channels))
            yield from _dense_layer(config, layers, inside, size)
            channels += config.growth_rate
        yield Operation((*place, "concat"), "concatenation", (*size, channels))
        if block != last_block:
            yield from _transition(config, layers, (f"transition{block}",), size)
            channels = config.transition_channels(channels)
            size = (size[0] // 2, size[1] // 2)
    if config.normalizes_head:
        yield from norm_act(config, layers, size)
    yield per_number(("global_pool",), "average pool", (channels,), math.prod(size))
    yield linear(next(layers))


def _half(size: tuple[int, int]) -> tuple[int, int]:
    """Returns the output size of the stem's convolution and pooling, which round up."""
    return ((size[0] + 1) // 2, (size[1] + 1) // 2)


def _dense_layer(
    config: DenseNetConfig,
    layers: Iterator[WeightLayer],
    path: tuple[str, ...],
    size: tuple[int, int],
) -> Iterator[Operation]:
    shape = (*size, config.growth_rate)
    if config.bottleneck:
        yield from _composite(config, layers, size)
        if config.dropout_rate > 0 and config.drops_every_convolution:
            yield Operation((*path, "dropout1"), "dropout", (*size, config.bottleneck_channels))
    yield from _composite(config, layers, size)
    if config.attention == "se":
        yield from attention(layers, (*path, "attention"), shape)
    if config.dropout_rate > 0:
        name = f"dropout{config.convolutions_per_layer}"
        yield Operation((*path, name), "dropout", shape)


def _transition(
    config: DenseNetConfig,
    layers: Iterator[WeightLayer],
    path: tuple[str, ...],
    size: tuple[int, int],
) -> Iterator[Operation]:
    operations = list(_composite(config, layers, size))
    channels = operations[-1].shape[-1]
    yield from operations
    if config.dropout_rate > 0 and config.drops_every_convolution:
        yield Operation((*path, "dropout"), "dropout", (*size, channels))
    shape = (size[0] // 2, size[1] // 2, channels)
    if config.transition_pool == "max":
        yield per_number((*path, "pool"), "maximum pool", shape, 2 * 2 - 1)
    else:
        yield per_number((*path, "pool"), "average pool", shape, 2 * 2)


def _composite(
    config: DenseNetConfig, layers: Iterator[WeightLayer], size: tuple[int, int]
) -> Iterator[Operation]:
    if config.order == "conv-norm-act":
        yield convolution(next(layers), size)
        yield from norm_act(config, layers, size)
    else:
        yield from norm_act(config, layers, size)
        yield convolution(next(layers), size)
