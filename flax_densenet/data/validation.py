"""Holding out training images, to tune settings and to choose an epoch with."""

import dataclasses

import numpy as np

from flax_densenet.data.dataset import Dataset
from flax_densenet.errors import InputError

# The same images whatever the run's seed, so that runs can be compared on them.
_SEED = 0


def hold_out(dataset: Dataset, num_images: int) -> Dataset:
    """Moves training images, chosen at random once and for all, to the validation split.

    Args:
      dataset: Data set without a validation split.
      num_images: Images to hold out; 0 returns the data set as it is.

    Raises:
      InputError: There are not that many training images.
    """
    total = len(dataset.train)
    if num_images == 0:
        return dataset
    if num_images >= total:
        raise InputError(
            f"validation_images (={num_images}) must be below the {total} training images of "
            f"{dataset.name}"
        )
    order = np.random.default_rng(_SEED).permutation(total)
    held_out, kept = np.sort(order[:num_images]), np.sort(order[num_images:])
    return dataclasses.replace(
        dataset,
        train=dataset.train.subset(kept),
        validation=dataset.train.subset(held_out),
    )
