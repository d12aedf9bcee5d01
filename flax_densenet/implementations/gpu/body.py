"""Everything but the classifier, in training.

Axes: B batch, H height, W width, C channels.
"""

from collections.abc import Mapping
from typing import Any

from jaxtyping import Array, Float

from flax_densenet.implementations.gpu.block import dense_block
from flax_densenet.implementations.gpu.transition import head, transition
from flax_densenet.implementations.statistics import BatchStatistics, normalization
from flax_densenet.implementations.stem import stem
from flax_densenet.network.config import DenseNetConfig


def train(
    config: DenseNetConfig,
    params: Mapping[str, Any],
    image: Float[Array, "B H W C"],
    *,
    remat: bool,
) -> tuple[Float[Array, "B D"], dict[tuple[str, ...], BatchStatistics]]:
    """Computes the pooled features on the statistics of the batch.

    Args:
      config: The network, without dropout.
      params: Its parameters under torchvision's names.
      image: [B, H, W, C].
      remat: Compute more again in the backward pass, and keep less.

    Returns:
      The pooled features [B, D], and the statistics of every normalization under its path.
    """
    epsilon = config.batch_norm_epsilon
    seen: dict[tuple[str, ...], BatchStatistics] = {}
    x, of_stem = stem(config, params, None, image)
    if of_stem is not None:
        seen["norm0",] = of_stem
    last_block = len(config.block_sizes)
    for block, num_layers in enumerate(config.block_sizes, start=1):
        names = [(f"denseblock{block}", f"denselayer{i}") for i in range(1, num_layers + 1)]
        layers = [params[outer][inner] for outer, inner in names]
        count = x.size // x.shape[-1]
        x, statistics, inner_statistics = dense_block(epsilon, remat, layers, x)
        for number, name in enumerate(names):
            seen[*name, "norm1"] = BatchStatistics(statistics, count)
            if inner_statistics:
                seen[*name, "norm2"] = BatchStatistics(inner_statistics[number], count)
        if block != last_block:
            seen[f"transition{block}", "norm"] = BatchStatistics(statistics, count)
            behind = params[f"transition{block}"]
            norm = normalization(behind["norm"], statistics, epsilon)
            x = transition(norm, behind["conv"]["kernel"], x)
    seen["norm5",] = BatchStatistics(statistics, count)
    return head(normalization(params["norm5"], statistics, epsilon), x), seen
