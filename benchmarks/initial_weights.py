"""A file with the initial weights that all contestants share."""

from pathlib import Path
from typing import Any

import numpy as np
from flax import traverse_util

from flax_densenet.bench.programs import measured_state
from flax_densenet.network.config import DenseNetConfig


def write_initial_weights(config: DenseNetConfig, file: Path) -> None:
    """Writes the weights with which our training starts.

    Args:
      config: The network.
      file: NumPy archive to write; the names in it are paths such as "params/conv0/kernel".
    """
    variables = measured_state(config).variables
    np.savez(file, **traverse_util.flatten_dict(variables, sep="/"))


def read_initial_weights(file: Path) -> dict[str, Any]:
    """Returns {"params", "batch_stats"} as nested dicts of NumPy arrays."""
    with np.load(file, allow_pickle=False) as archive:
        variables: dict[str, Any] = traverse_util.unflatten_dict(dict(archive), sep="/")
    return variables
