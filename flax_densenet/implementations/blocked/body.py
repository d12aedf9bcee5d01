"""The network put together from what computes chunks in the cache.

Axes: B batch, H height, W width, C channels, D pooled features.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from flax_densenet.implementations import walk
from flax_densenet.implementations.blocked.block import dense_block
from flax_densenet.implementations.blocked.evaluation import evaluate_block
from flax_densenet.implementations.blocked.pooling import head, transition
from flax_densenet.implementations.chunks import Chunking
from flax_densenet.implementations.statistics import BatchStatistics
from flax_densenet.implementations.stem import stem
from flax_densenet.implementations.walk import Path, Variables
from flax_densenet.network.config import DenseNetConfig

# Some hundred channels of as many pixels are a few MiB, about what a core's cache holds. From 4096
# to 8192 it makes no difference, and below 2048 matrix products slow down (decision 0010).
_CHUNKING = Chunking(pixels=8192)


def train(
    config: DenseNetConfig, params: Variables, image: Float[Array, "B H W C"], *, remat: bool
) -> tuple[Float[Array, "B D"], dict[Path, BatchStatistics]]:
    """Computes the pooled features on the statistics of the batch, as `walk.train`."""
    parts = walk.Training(_CHUNKING, _train_stem, dense_block, transition, head)
    return walk.train(parts, config, params, image, remat=remat)


def evaluate(
    config: DenseNetConfig,
    params: Variables,
    running: Variables,
    image: Float[Array, "B H W C"],
    remat: bool = False,
) -> Float[Array, "B D"]:
    """Computes the pooled features on the running statistics, as `walk.evaluate`."""
    parts = walk.Evaluation(_CHUNKING, _evaluate_stem, evaluate_block)
    return walk.evaluate(parts, config, params, running, image, remat=remat)


def _train_stem(
    config: DenseNetConfig, params: Variables, image: jax.Array
) -> tuple[Float[Array, "B D h w"], BatchStatistics | None]:
    x, statistics = stem(config, params, None, image)
    return jnp.moveaxis(x, -1, 1), statistics


def _evaluate_stem(
    config: DenseNetConfig, params: Variables, running: Variables, image: jax.Array
) -> Float[Array, "B D h w"]:
    return jnp.moveaxis(stem(config, params, running, image)[0], -1, 1)
