"""What is measured on: images, labels, learning rate, weight decay.

Axes: B batch, H height, W width, C channels.
"""

import numpy as np

from flax_densenet.config import DenseNetConfig
from flax_densenet.data.batches import EvalBatch, TrainBatch

LEARNING_RATE = 0.1
WEIGHT_DECAY = 1e-4
SEED = 0
_PIXEL_MEAN, _PIXEL_STD = 128.0, 74.0  # of uniform random bytes
_NUM_BATCHES = 4


def channel_statistics(config: DenseNetConfig) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Returns mean and standard deviation of each channel of the images, in 0 to 255."""
    return (_PIXEL_MEAN,) * config.in_channels, (_PIXEL_STD,) * config.in_channels


def train_batches(config: DenseNetConfig, batch_size: int, image_size: int) -> list[TrainBatch]:
    """Returns some random batches, the same in every process, over which training goes in turn.

    Args:
      config: The network.
      batch_size: Images in each (B).
      image_size: Their height and width in pixels.
    """
    random = np.random.default_rng(SEED)
    image_shape = (batch_size, image_size, image_size, config.in_channels)
    return [
        {
            "image": random.integers(0, 256, image_shape, np.uint8),
            "label": random.integers(0, config.num_classes, batch_size, np.int32),
        }
        for _ in range(_NUM_BATCHES)
    ]


def eval_batch(batch: TrainBatch) -> EvalBatch:
    """Returns the same images to evaluate on, all of which count."""
    return {**batch, "valid": np.ones(len(batch["label"]), bool)}
