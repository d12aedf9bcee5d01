"""Giving converted weights another type, classifier or number of image channels.

Axes: H kernel height, W kernel width, I input channels, O output channels.
"""

import dataclasses
from typing import Any

import jax
import ml_dtypes
import numpy as np

from flax_densenet.config import DenseNetConfig
from flax_densenet.conversion.stored_type import StoredType
from flax_densenet.errors import InputError
from flax_densenet.initialization import initialize


def with_new_head(
    variables: dict[str, Any], config: DenseNetConfig, num_classes: int, *, seed: int = 0
) -> tuple[dict[str, Any], DenseNetConfig]:
    """Replaces the classifier by one with initial weights.

    Args:
      variables: {"params", "batch_stats"}.
      config: Their network.
      num_classes: Classes of the new one.
      seed: Decides its weights.

    Returns:
      The new variables, which share all other arrays, and their network.
    """
    config = dataclasses.replace(config, num_classes=num_classes)
    fresh = initialize(config, jax.random.key(seed))["params"]["classifier"]
    dtype = variables["params"]["classifier"]["kernel"].dtype
    head = {name: np.asarray(array).astype(dtype) for name, array in fresh.items()}
    return {**variables, "params": {**variables["params"], "classifier": head}}, config


def with_in_channels(
    variables: dict[str, Any], config: DenseNetConfig, in_channels: int
) -> tuple[dict[str, Any], DenseNetConfig]:
    """Adapts the first convolution to another number of image channels.

    From 3 to 1 the kernels of the channels are added, which gives the same result for a gray image
    as for its three equal channels. From 1 to more each channel gets the kernel divided by their
    number, which gives the same result for equal channels.

    Args:
      variables: {"params", "batch_stats"}.
      config: Their network.
      in_channels: Channels of the new one.

    Returns:
      The new variables, which share all other arrays, and their network.

    Raises:
      InputError: There is no such rule for these numbers.
    """
    kernel = variables["params"]["conv0"]["kernel"]  # [H, W, I, O]
    if in_channels == 1:
        new = kernel.sum(axis=2, keepdims=True, dtype=np.float64)
    elif config.in_channels == 1:
        new = np.repeat(kernel.astype(np.float64) / in_channels, in_channels, axis=2)
    else:
        raise InputError(
            f"in_channels (={in_channels}) cannot be had from weights for {config.in_channels} "
            "channels; wanted 1, whose kernel is the sum, or weights for 1; or train the first "
            "convolution anew"
        )
    conv0 = {"kernel": new.astype(kernel.dtype)}
    config = dataclasses.replace(config, in_channels=in_channels)
    return {**variables, "params": {**variables["params"], "conv0": conv0}}, config


def cast(array: np.ndarray, collection: str, dtype: StoredType) -> np.ndarray:
    """Returns an array in another type.

    Args:
      array: The array.
      collection: "params", or "batch_stats", which stay at least float32.
      dtype: The type.

    Raises:
      InputError: The type cannot hold its values.
    """
    wanted = np.dtype(ml_dtypes.bfloat16) if dtype == "bfloat16" else np.dtype(dtype)
    if collection == "batch_stats" and wanted.itemsize < 4:
        wanted = np.dtype(np.float32)
    with np.errstate(over="ignore"):
        result = np.asarray(array).astype(wanted, copy=False)
    if np.isfinite(array).all() and not np.isfinite(result).all():
        raise InputError(
            f"dtype (={dtype!r}) cannot hold values up to {np.abs(array).max():.3g}; use float32"
        )
    return result
