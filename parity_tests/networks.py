"""Tiny networks of every variant, and with every option."""

import dataclasses
from typing import NamedTuple

from flax_densenet import DenseNetConfig
from flax_densenet.network.fields import ComputeType


class Case(NamedTuple):
    """A network, the shape of its images, [B, C, H, W], and the seed of those it is trained on."""

    config: DenseNetConfig
    image_shape: tuple[int, int, int, int]
    first_seed: int = 0


# With few values per channel in the last block, batch normalization amplifies rounding: with 3 of
# them, a change of one bit in every weight of conv0 moves PyTorch's own parameters by 5e-9 within
# ten steps in float64; with 16 or more it is 4e-14. Batches and sizes are chosen accordingly.
#
# Of the 2.5 million values before a ReLU in ten steps of the largest network some lie closer to 0
# than float32 rounds, and which side they fall on depends on the processor. Its seed is one where
# none is closer than 1.6e-6 in float64; with seed 0 it was 2e-8, and momentum differed by 2e-3 on a
# processor with AVX2.
CASES = {
    "plain": Case(DenseNetConfig(depth=10, growth_rate=4), (4, 3, 8, 8)),
    "plain, gray, odd size": Case(
        DenseNetConfig(depth=7, growth_rate=3, in_channels=1, num_classes=3), (3, 1, 9, 11)
    ),
    "C": Case(DenseNetConfig(depth=10, growth_rate=5, compression=0.6), (4, 3, 10, 7)),
    "B, four channels": Case(
        DenseNetConfig(depth=10, growth_rate=4, bottleneck=True, in_channels=4), (4, 4, 8, 9)
    ),
    "BC, Keras epsilon": Case(
        DenseNetConfig(
            depth=16, growth_rate=4, bottleneck=True, compression=0.5, batch_norm_epsilon=1.001e-5
        ),
        (4, 3, 8, 8),
    ),
    "BC, two blocks, narrow bottleneck, stem width, momentum": Case(
        DenseNetConfig(
            blocks=(2, 3),
            growth_rate=4,
            bottleneck=True,
            compression=0.5,
            bottleneck_factor=2,
            stem_width=5,
            batch_norm_momentum=0.01,
        ),
        (4, 3, 5, 6),
    ),
    "ImageNet": Case(
        DenseNetConfig(
            blocks=(2, 1, 2, 1), growth_rate=4, bottleneck=True, compression=0.5, stem="imagenet"
        ),
        (12, 3, 64, 48),
        first_seed=50,
    ),
    "ImageNet, gray, odd size": Case(
        DenseNetConfig(
            blocks=(1, 2),
            growth_rate=4,
            bottleneck=True,
            compression=0.5,
            stem="imagenet",
            in_channels=1,
        ),
        (6, 1, 17, 23),
    ),
}

# Together they have every value of every option; the paper's values are those of CASES.
OPTION_CASES = {
    "leaky ReLU, maximum, 5x5": Case(
        DenseNetConfig(
            blocks=(1, 1),
            growth_rate=4,
            activation="leaky_relu",
            transition_pool="max",
            kernel_size=5,
        ),
        (4, 3, 8, 9),
    ),
    "PReLU, groups, attention": Case(
        DenseNetConfig(
            blocks=(1, 1),
            growth_rate=4,
            activation="prelu",
            groups=2,
            attention="se",
            attention_reduction=2,
        ),
        (4, 3, 8, 9),
    ),
    # The tutorial's network.
    "convolutions first, maximum, attention": Case(
        DenseNetConfig(
            blocks=(1, 1),
            growth_rate=4,
            bottleneck=True,
            order="conv-norm-act",
            transition_pool="max",
            attention="se",
        ),
        (4, 3, 8, 8),
    ),
    "ImageNet, convolutions first, sigmoid, groups": Case(
        DenseNetConfig(
            blocks=(1, 1),
            growth_rate=4,
            stem="imagenet",
            order="conv-norm-act",
            activation="sigmoid",
            groups=4,
        ),
        (6, 3, 16, 24),
    ),
    "tanh, 1x1": Case(
        DenseNetConfig(blocks=(1,), growth_rate=4, activation="tanh", kernel_size=1),
        (4, 3, 4, 5),
    ),
}


def with_precision(case: Case, precision: ComputeType) -> Case:
    """Returns the case computing in "float64" or "float32"."""
    return case._replace(config=dataclasses.replace(case.config, dtype=precision))
