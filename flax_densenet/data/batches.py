"""Batches of one fixed size, so that each compiled step sees one shape in the whole run.

Axes: B batch, H height, W width, C channels.
"""

from collections.abc import Iterator
from typing import TypedDict

import numpy as np
from jaxtyping import Bool, Int32, UInt8

from flax_densenet.data.dataset import Split
from flax_densenet.errors import InputError


class TrainBatch(TypedDict):
    """Images [B, H, W, C] and labels [B]."""

    image: UInt8[np.ndarray, "B H W C"]
    label: Int32[np.ndarray, " B"]


class EvalBatch(TrainBatch):
    """A batch that may be filled up; `valid` [B] marks the examples that count."""

    valid: Bool[np.ndarray, " B"]


def steps_per_epoch(num_examples: int, batch_size: int) -> int:
    """Returns the number of whole batches; the rest of each epoch's order is left out.

    Raises:
      InputError: There are fewer examples than one batch needs.
    """
    if num_examples < batch_size:
        raise InputError(
            f"batch_size (={batch_size}) is larger than the {num_examples} training images; "
            f"use at most {num_examples}"
        )
    return num_examples // batch_size


def train_batches(
    split: Split, batch_size: int, *, seed: int, epoch: int, first_step: int = 0
) -> Iterator[TrainBatch]:
    """Yields one epoch of whole batches in an order that depends on seed and epoch alone.

    Args:
      split: Training images.
      batch_size: Images per batch (B).
      seed: The run's seed.
      epoch: Epoch from 0; every epoch has its own order.
      first_step: Batches to leave out, which an interrupted run has done.
    """
    order = np.random.default_rng([seed, epoch]).permutation(len(split))
    for step in range(first_step, steps_per_epoch(len(split), batch_size)):
        chosen = order[step * batch_size : (step + 1) * batch_size]
        yield {"image": split.image[chosen], "label": split.label[chosen]}


def eval_batches(split: Split, batch_size: int) -> Iterator[EvalBatch]:
    """Yields every example exactly once, the last batch filled up with invalid ones.

    Args:
      split: Images to evaluate on.
      batch_size: Images per batch (B).
    """
    for start in range(0, len(split), batch_size):
        image = split.image[start : start + batch_size]
        label = split.label[start : start + batch_size]
        missing = batch_size - len(label)
        yield {
            "image": np.pad(image, [(0, missing), (0, 0), (0, 0), (0, 0)]),
            "label": np.pad(label, (0, missing)),
            "valid": np.arange(batch_size) < batch_size - missing,
        }
