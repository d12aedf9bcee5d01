"""Batches of one fixed size, so that a step is compiled once.

Axes: B batch, H height, W width, C channels.
"""

from collections.abc import Iterator
from typing import NamedTuple, TypedDict

import numpy as np
from jaxtyping import Bool, Int32, UInt8

from flax_densenet.data.dataset import Split
from flax_densenet.errors import InputError


class Share(NamedTuple):
    """The part of each batch that one of several processes reads.

    Attributes:
      process: Number of this process, from 0.
      num_processes: Number of processes.
    """

    process: int
    num_processes: int

    def of(self, batch: np.ndarray) -> np.ndarray:
        """Returns this process's rows of the whole batch, [B, ...] -> [B // num_processes, ...]."""
        rows = len(batch) // self.num_processes
        return batch[self.process * rows : (self.process + 1) * rows]


WHOLE = Share(0, 1)


class TrainBatch(TypedDict):
    """Images [B, H, W, C] and labels [B]."""

    image: UInt8[np.ndarray, "B H W C"]
    label: Int32[np.ndarray, " B"]


class EvalBatch(TrainBatch):
    """A batch with padding in the end; `valid` [B] marks the examples that count."""

    valid: Bool[np.ndarray, " B"]


def steps_per_epoch(num_examples: int, batch_size: int) -> int:
    """Returns the number of whole batches in an epoch; the images left over are not used.

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
    split: Split,
    batch_size: int,
    *,
    seed: int,
    epoch: int,
    first_step: int = 0,
    share: Share = WHOLE,
) -> Iterator[TrainBatch]:
    """Yields one epoch of whole batches in an order that depends on seed and epoch alone.

    Args:
      split: Training images.
      batch_size: Images per batch (B), of all processes together.
      seed: The run's seed.
      epoch: Epoch from 0; every epoch has its own order.
      first_step: Batches to leave out, since an interrupted run has done them.
      share: The part of each batch that this process reads.
    """
    order = np.random.default_rng([seed, epoch]).permutation(len(split))
    last = steps_per_epoch(len(split), batch_size) * batch_size
    chosen = [
        share.of(order[start : start + batch_size])
        for start in range(first_step * batch_size, last, batch_size)
    ]
    for examples in split.read(chosen, crop_seed=(seed, epoch)):
        yield {"image": examples.image, "label": examples.label}


def eval_batches(split: Split, batch_size: int, *, share: Share = WHOLE) -> Iterator[EvalBatch]:
    """Yields every example exactly once; the last batch is padded with invalid ones.

    Args:
      split: Images to evaluate on.
      batch_size: Images per batch (B), of all processes together.
      share: The part of each batch that this process reads.
    """
    padded = -(-len(split) // batch_size) * batch_size
    index = np.arange(padded).reshape(-1, batch_size)
    valid = [share.of(batch < len(split)) for batch in index]
    chosen = [share.of(np.where(batch < len(split), batch, 0)) for batch in index]
    for examples, counts in zip(split.read(chosen), valid, strict=True):
        yield {
            "image": examples.image,
            "label": examples.label,
            "valid": counts & examples.readable,
        }
