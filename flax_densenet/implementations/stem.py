"""The stem as a function of its parameters.

Axes: B batch, H height, W width, C channels; h, w after pooling, D channels of the stem.
"""

from collections.abc import Mapping
from typing import Any

import jax
from jax import lax
from jaxtyping import Array, Float

from flax_densenet.implementations.statistics import (
    BatchStatistics,
    Statistics,
    batch_statistics,
    norm_relu,
    normalization,
)
from flax_densenet.network.config import DenseNetConfig
from flax_densenet.network.model import stem_pool

CHANNELS = -1  # axis of the channels


def stem(
    config: DenseNetConfig,
    params: Mapping[str, Any],
    running: Mapping[str, Any] | None,
    image: Float[Array, "B H W C"],
) -> tuple[Float[Array, "B h w D"], BatchStatistics | None]:
    """Computes what comes before the first block.

    Args:
      config: The network.
      params: Its parameters under torchvision's names.
      running: Its running statistics under the same names; None: use the batch's.
      image: [B, H, W, C].

    Returns:
      The maps [B, h, w, D], and the statistics that the normalization used, if there is one.
    """
    size, stride = (7, 2) if config.stem == "imagenet" else (3, 1)
    padding = [(size // 2, size // 2)] * 2
    kernel = params["conv0"]["kernel"].astype(image.dtype)
    x: jax.Array = lax.conv_general_dilated(
        image, kernel, (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    if not config.normalizes_stem:
        return x, None
    statistics = (
        batch_statistics(x, CHANNELS) if running is None else Statistics(**running["norm0"])
    )
    y = norm_relu(
        normalization(params["norm0"], statistics, config.batch_norm_epsilon), x, CHANNELS
    )
    pooled = stem_pool(y)
    return pooled, BatchStatistics(statistics, x.size // x.shape[-1])
