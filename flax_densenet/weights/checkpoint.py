"""A DenseNet's weights and what belongs to them, wherever they came from."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from flax import traverse_util

from flax_densenet.data.dataset import ChannelStatistics
from flax_densenet.data.outputs import Outputs
from flax_densenet.data.preparation import Preparation
from flax_densenet.errors import InputError
from flax_densenet.network.config import DenseNetConfig
from flax_densenet.weights.optimizer import OptimizerState


class Checkpoint(NamedTuple):
    """A DenseNet's weights, wherever they came from.

    Attributes:
      config: The network, with the epsilon of the software that trained it. Without a head its
        number of classes means nothing.
      variables: {"params", "batch_stats"}, NumPy arrays of the file's dtypes, but of float32 where
        they are narrower: batch normalization needs it.
      layout: Key of `LAYOUTS`.
      where: Place of the weights in the file; "" is the whole file.
      format: The file's format, for people.
      source_arrays: The arrays under the layout's names, as they are in the file.
      unneeded: Paths of arrays that are not taken, such as the optimizer's state or a loss's.
      warnings: Oddities, in sentences.
      metadata: Text by name, from the file.
      preparation: How images are prepared, as far as the file or its layout says.
      class_names: One name per class, if the file says.
      optimizer: The state of SGD with momentum, if the file holds it and it was asked for.
      path: The file or directory, wherever it was found.
      published: Key of `PUBLISHED`, if these are published weights.
      outputs: How the outputs are read.
      counters: Batches that each normalization has seen, in forward order (PyTorch's
        `num_batches_tracked`), if the file says.
      no_head: Why there is no classifier in `variables`, in words; "" if there is one.
    """

    config: DenseNetConfig
    variables: dict[str, Any]
    layout: str
    where: str
    format: str
    source_arrays: dict[str, np.ndarray]
    unneeded: list[str]
    warnings: list[str]
    metadata: dict[str, str]
    preparation: Preparation = Preparation()
    class_names: tuple[str, ...] | None = None
    optimizer: OptimizerState | None = None
    path: Path = Path()
    published: str | None = None
    outputs: Outputs = Outputs()
    counters: tuple[int, ...] | None = None
    no_head: str = ""

    @property
    def has_head(self) -> bool:
        """Whether there is a classifier in `variables`."""
        return not self.no_head

    @property
    def statistics(self) -> ChannelStatistics | None:
        """What images are normalized with, if the file or its layout says."""
        return self.preparation.statistics


def check_head(checkpoint: Checkpoint) -> None:
    """Checks that a checkpoint has a classifier.

    Raises:
      InputError: It has none.
    """
    if not checkpoint.has_head:
        raise InputError(
            f"{checkpoint.path} holds {checkpoint.config.title} without a classifier that can be "
            f"read: {checkpoint.no_head}; give it a new one: convert FILE TARGET --new_head "
            "--num_classes N, train --init_from FILE --new_head, or create(NAME, weights=FILE, "
            "num_classes=N, key=...); features alone need none: load(FILE, head=False)"
        )


def flat(variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Returns variables by their paths, such as "params/conv0/kernel"."""
    return traverse_util.flatten_dict(dict(variables), sep="/")
