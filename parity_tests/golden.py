"""torchvision's own numbers, and the weights and images they were computed with.

`data/torchvision.json.gz` holds what torchvision 0.29.1 gave in float64 for weights that are a
function of the state-dict key alone. Every array is stored as its sum, its sum of absolute values
and its first 8 values in [B, C, H, W] order.
"""

import functools
import gzip
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from flax_densenet import DenseNetConfig
from flax_densenet.weights.table import correspondence

_FILE = Path(__file__).parent / "data" / "torchvision.json.gz"


@functools.cache
def golden() -> dict[str, Any]:
    """Returns the stored numbers: {"eval": [...], "train": [...]}."""
    with gzip.open(_FILE) as file:
        return json.load(file)


def state_dict(config: DenseNetConfig) -> dict[str, np.ndarray]:
    """Returns the weights that the numbers belong to, float64 under torchvision's names."""
    return {row.key: _tensor(row.key, row.shape) for row in correspondence(config)}


def image(shape: list[int]) -> np.ndarray:
    """Returns the images [B, 3, H, W] that the numbers belong to."""
    return _wave("image", tuple(shape))


def label(batch_size: int, num_classes: int = 1000) -> np.ndarray:
    """Returns the labels [B] that the numbers belong to."""
    return ((np.arange(batch_size) * 37) % num_classes).astype(np.int32)


def summaries(
    arrays: dict[str, np.ndarray], stored: dict[str, dict[str, Any]]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Reduces arrays to what is stored of them, to be compared.

    Args:
      arrays: Arrays in PyTorch's layout, which contain all stored names.
      stored: Summary of each array.

    Returns:
      Ours and theirs: "<name> sum" and "<name> values" for every stored name. Sums are divided by
      the sum of absolute values, since they may cancel.
    """
    ours, theirs = {}, {}
    for name, right in stored.items():
        array = np.asarray(arrays[name], np.float64)
        scale = right["abs_sum"]
        ours[f"{name} sums"] = np.array([array.sum(), np.abs(array).sum()]) / scale
        theirs[f"{name} sums"] = np.array([right["sum"], scale]) / scale
        # The first values may all be small, so that they are measured by the array's mean size.
        mean = scale / array.size
        ours[f"{name} values"] = np.append(array.ravel()[:8], mean)
        theirs[f"{name} values"] = np.append(right["first"], mean)
    return ours, theirs


def _tensor(key: str, shape: tuple[int, ...]) -> np.ndarray:
    wave = _wave(key, shape)
    if key.endswith("running_var"):
        return 1.0 + 0.5 * wave**2
    if key.endswith(("running_mean", "bias")):
        return 0.1 * wave
    if len(shape) == 1:
        return 1.0 + 0.2 * wave
    return 2.0 * wave / np.sqrt(np.prod(shape[1:]))


def _wave(name: str, shape: tuple[int, ...]) -> np.ndarray:
    index = np.arange(np.prod(shape), dtype=np.float64)
    phase = zlib.crc32(name.encode()) % 10_007
    return np.sin(1.7 * index + 0.013 * index**1.5 + phase).reshape(shape)
