"""The network put together from the compiled parts.

Axes: B batch, H height, W width, C channels, D pooled features.
"""

from functools import partial

import jax
from jaxtyping import Array, Float

from flax_densenet.implementations import blocked, walk
from flax_densenet.implementations.blocked.pooling import head
from flax_densenet.implementations.chunks import Chunking
from flax_densenet.implementations.native.block import dense_block
from flax_densenet.implementations.native.evaluation import evaluate_block
from flax_densenet.implementations.native.stem import evaluate_stem, train_stem
from flax_densenet.implementations.native.transition import transition
from flax_densenet.implementations.statistics import BatchStatistics
from flax_densenet.implementations.walk import Path, Variables
from flax_densenet.network.config import DenseNetConfig

# What a thread needs of so many pixels fits its second cache, and there are chunks for all threads.
_CHUNKING = Chunking(pixels=1024, least=4)


def train(
    config: DenseNetConfig, params: Variables, image: Float[Array, "B H W C"], *, remat: bool
) -> tuple[Float[Array, "B D"], dict[Path, BatchStatistics]]:
    """Computes the pooled features on the statistics of the batch, as `walk.train`."""
    parts = walk.Training(_CHUNKING, train_stem, dense_block, transition, head)
    return walk.train(parts, config, params, image, remat=remat)


@partial(jax.custom_jvp, nondiff_argnums=(0, 4))
def evaluate(
    config: DenseNetConfig,
    params: Variables,
    running: Variables,
    image: Float[Array, "B H W C"],
    remat: bool,
) -> Float[Array, "B D"]:
    """Computes the pooled features on the running statistics, as `walk.evaluate`.

    Where a derivative is wanted, as with frozen statistics, `blocked` computes everything.
    """
    parts = walk.Evaluation(_CHUNKING, evaluate_stem, evaluate_block)
    return walk.evaluate(parts, config, params, running, image, remat=remat)


@evaluate.defjvp
def _differentiate(
    config: DenseNetConfig, remat: bool, primals: tuple, tangents: tuple
) -> tuple[jax.Array, jax.Array]:
    return jax.jvp(partial(blocked.evaluate, config, remat=remat), primals, tangents)
