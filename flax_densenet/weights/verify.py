"""Verifies a conversion: the network in PyTorch and in Flax, from source and target.

Axes: B batch, C channels, H height, W width, K classes.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from flax_densenet.densenet import DenseNet
from flax_densenet.network.config import DenseNetConfig
from flax_densenet.weights.adapt import StoredType, cast
from flax_densenet.weights.checkpoint import Checkpoint
from flax_densenet.weights.layouts import LAYOUTS, TORCHVISION
from flax_densenet.weights.table import correspondence, to_arrays

# From arrays as torchvision names them, the network and images [B, C, H, W] to logits [B, K].
TorchLogits = Callable[[dict[str, np.ndarray], DenseNetConfig, np.ndarray], np.ndarray]

_BATCH = 2
_IMAGE_SIZE = 32  # pixels, or as many as the network needs
_LARGEST_DIFFERENCE = 1e-10  # float64 rounding stays below 1e-13; a wrong array is far above


class Verified(NamedTuple):
    """The result of a verification.

    Attributes:
      difference: Largest difference of the logits, as a share of the largest logit.
      is_equal: Whether the difference is rounding.
    """

    difference: float
    is_equal: bool


def choose_sides(
    source: Checkpoint, adapted: Checkpoint, again: Checkpoint, dtype: StoredType, *, renewed: bool
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Returns arrays for the network in PyTorch, and variables for the network in Flax.

    One side comes from the source and one from the target. Arrays of PyTorch files are renamed and
    not permuted, so that a wrong permutation in our tables shows.

    Args:
      source: What was read.
      adapted: What was written.
      again: The target, read back.
      dtype: Type of the target.
      renewed: Whether layers of the source were replaced.
    """
    if LAYOUTS[source.layout].leaves is TORCHVISION.leaves and not renewed:
        arrays = {
            key: cast(array, "batch_stats" if "running" in key else "params", dtype)
            for key, array in source.source_arrays.items()
        }
        return _torch_arrays(arrays, source.config, source.layout), again.variables
    if LAYOUTS[again.layout].leaves is TORCHVISION.leaves:
        arrays = _torch_arrays(again.source_arrays, adapted.config, again.layout)
        return arrays, adapted.variables
    return to_arrays(adapted.variables, adapted.config, TORCHVISION), again.variables


def verify(
    torch_side: dict[str, np.ndarray],
    flax_side: dict[str, Any],
    config: DenseNetConfig,
    torch_logits: TorchLogits,
) -> Verified:
    """Runs both networks in float64 on the same random images.

    Args:
      torch_side: Arrays as torchvision names them, of the network in PyTorch.
      flax_side: {"params", "batch_stats"} of the network in Flax.
      config: The network.
      torch_logits: Computes the logits in PyTorch, in float64.
    """
    size = max(_IMAGE_SIZE, config.min_image_size)
    image = np.random.default_rng(0).normal(size=(_BATCH, config.in_channels, size, size))
    wide_arrays = {key: array.astype(np.float64) for key, array in torch_side.items()}
    theirs = torch_logits(wide_arrays, config, image)
    with jax.enable_x64(True), jax.default_matmul_precision("highest"):
        wide = jax.tree.map(lambda array: np.asarray(array).astype(np.float64), flax_side)
        model = DenseNet(dataclasses.replace(config, dtype="float64"))
        apply = jax.jit(lambda variables, x: model.apply(variables, x, train=False))
        ours = np.asarray(apply(wide, image.transpose(0, 2, 3, 1)))
    difference = float(np.abs(ours - theirs).max() / np.abs(theirs).max())
    return Verified(difference, difference <= _LARGEST_DIFFERENCE)


def _torch_arrays(
    arrays: dict[str, np.ndarray], config: DenseNetConfig, layout: str
) -> dict[str, np.ndarray]:
    """Returns the arrays of a PyTorch layout as torchvision names them."""
    rows = zip(correspondence(config, LAYOUTS[layout]), correspondence(config), strict=True)
    return {theirs.key: arrays[row.key] for row, theirs in rows}
