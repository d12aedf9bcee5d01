"""torchvision's own numbers, and the weights and images that they belong to.

`data/torchvision.json.gz` holds the results of torchvision 0.29.1 in float64, for weights that the
state-dict key alone decides; `make_golden.py` writes it. Every array is stored as its sum, its sum
of absolute values and its first 8 values in [B, C, H, W] order.

The weights are the same bits on every processor. Powers and sines are not: NumPy's differ by a bit
from one processor to another, and the power of a large index by enough to change the logits by
1e-9.
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

FILE = Path(__file__).parent / "data" / "torchvision.json.gz"


@functools.cache
def golden() -> dict[str, Any]:
    """Returns the stored numbers: {"eval": [...], "train": [...]}."""
    with gzip.open(FILE) as file:
        return json.load(file)


def state_dict(config: DenseNetConfig) -> dict[str, np.ndarray]:
    """Returns the weights that the numbers belong to, float64 under torchvision's names."""
    return {row.key: tensor(row.key, row.shape) for row in correspondence(config)}


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


def tensor(key: str, shape: tuple[int, ...]) -> np.ndarray:
    """Returns the weights under a state-dict key."""
    wave = _wave(key, shape)
    if key.endswith("running_var"):
        return 1.0 + 0.5 * wave**2
    if key.endswith(("running_mean", "bias")):
        return 0.1 * wave
    if len(shape) == 1:
        return 1.0 + 0.2 * wave
    return 2.0 * wave / np.sqrt(np.prod(shape[1:]))


def _wave(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Returns numbers of mean 0 and variance 1/2, by a generator that NumPy never changes."""
    draw = np.random.RandomState(zlib.crc32(name.encode())).random_sample(shape)
    return np.sqrt(1.5) * (2 * draw - 1)
