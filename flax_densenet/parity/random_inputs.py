"""Random weights, images and labels, and changes of their last bits.

No weight has its initial value, since initial statistics hide faults: with mean 0, variance 1 and
bias 0 a missing ReLU after a non-negative input changes nothing.

Axes: B batch, C channels, H height, W width.
"""

from typing import Any

import jax
import numpy as np
from flax import traverse_util

from flax_densenet.network.config import DenseNetConfig
from flax_densenet.network.initialization import conv_scale, linear_scale
from flax_densenet.parity.half import Batch
from flax_densenet.weights.table import correspondence

ImageShape = tuple[int, int, int, int]

# One unit does what rounding does, on average. In float32 it may by chance not change the sign of
# any activation next to 0 where another framework does, which moves gradients by 1e-4 to 1e-2.
_LAST_BITS = 16


def random_variables(config: DenseNetConfig, seed: int = 0) -> dict[str, Any]:
    """Returns variables of the configuration's dtype, none of them at its initial value."""
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


def random_batch(config: DenseNetConfig, image_shape: ImageShape, seed: int = 1) -> Batch:
    """Returns normalized images of the configuration's dtype, and labels.

    Args:
      config: The network.
      image_shape: (B, C, H, W).
      seed: Seed of the draw.
    """
    random = np.random.default_rng(seed)
    image = random.normal(size=image_shape).astype(config.dtype)
    return Batch(image, _labels(config, image_shape, random))


def random_pixels(
    config: DenseNetConfig, image_shape: ImageShape, num_steps: int, first_seed: int = 0
) -> list[Batch]:
    """Returns a batch of uint8 images for each step of training.

    Args:
      config: The network.
      image_shape: (B, C, H, W).
      num_steps: Number of batches.
      first_seed: Seed of the first one; the next ones count on.
    """
    batches = []
    for seed in range(first_seed, first_seed + num_steps):
        random = np.random.default_rng(seed)
        pixels = random.integers(256, size=image_shape).astype(np.uint8)
        batches.append(Batch(pixels, _labels(config, image_shape, random)))
    return batches


def nudge(tree: Any, seed: int = 0) -> Any:
    """Moves every number of a pytree of arrays by 16 units in the last place.

    Args:
      tree: Arrays.
      seed: Decides which numbers go up and which down.

    Returns:
      A pytree with arrays of the same shapes and dtypes.
    """
    random = np.random.default_rng(seed)

    def nudge_array(array: np.ndarray) -> np.ndarray:
        array = np.asarray(array)
        sign = np.where(random.random(array.shape) < 0.5, -1, 1)
        return array + (sign * _LAST_BITS * np.spacing(array)).astype(array.dtype)

    return jax.tree.map(nudge_array, tree)


def _labels(
    config: DenseNetConfig, image_shape: ImageShape, random: np.random.Generator
) -> np.ndarray:
    return random.integers(config.num_classes, size=image_shape[0]).astype(np.int32)
