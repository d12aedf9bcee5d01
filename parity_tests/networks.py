"""Tiny networks of every variant, with random weights, statistics and images.

Fresh initial statistics hide faults: with mean 0, variance 1 and bias 0 a missing ReLU behind a
non-negative input, for one, changes nothing.
"""

import dataclasses
from typing import Any, NamedTuple

import numpy as np
from flax import traverse_util

from flax_densenet import DenseNetConfig
from flax_densenet.config import ComputeType
from flax_densenet.initialization import conv_scale, linear_scale
from flax_densenet.weights import correspondence


class Case(NamedTuple):
    """A network and the shape of its images, [B, C, H, W]."""

    config: DenseNetConfig
    image_shape: tuple[int, int, int, int]


# With few values per channel in the last block, batch normalization amplifies rounding: with 3 of
# them, a change of one bit in every weight of conv0 moves PyTorch's own parameters by 5e-9 within
# ten steps in float64; with 16 or more it is 4e-14. Batches and sizes are chosen accordingly.
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


def with_precision(case: Case, precision: ComputeType) -> Case:
    """Returns the case computing in "float64" or "float32"."""
    return case._replace(config=dataclasses.replace(case.config, dtype=precision))


def random_variables(config: DenseNetConfig, seed: int = 0) -> dict[str, Any]:
    """Returns variables of the configuration's dtype in which nothing is at its initial value."""
    random = np.random.default_rng(seed)
    arrays = {}
    for row in correspondence(config):
        shape, name = row.flax_shape, row.leaf.flax_name
        noise = random.normal(size=shape)
        if name == "kernel":
            scale = conv_scale(shape) if row.layer.kind == "conv" else linear_scale(shape)
            array = scale * noise
        elif name == "scale":
            array = 1 + 0.2 * noise
        elif name == "var":
            array = np.exp(0.3 * noise)
        else:
            array = 0.3 * noise
        arrays[row.flax_path] = array.astype(config.dtype)
    return traverse_util.unflatten_dict(arrays)


def random_batch(case: Case, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Returns images [B, C, H, W] of the configuration's dtype, and labels [B]."""
    random = np.random.default_rng(seed)
    image = random.normal(size=case.image_shape).astype(case.config.dtype)
    label = random.integers(case.config.num_classes, size=case.image_shape[0])
    return image, label.astype(np.int32)
