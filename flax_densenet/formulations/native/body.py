"""The network put together from the compiled parts.

Axes: B batch, H height, W width, C channels, D pooled features.
"""

from functools import partial

import jax
from jaxtyping import Array, Float

from flax_densenet.config import DenseNetConfig
from flax_densenet.formulations import cache_blocked, chunked
from flax_densenet.formulations.cache_blocked.transition import head
from flax_densenet.formulations.chunked import Path, Variables
from flax_densenet.formulations.chunks import Chunking
from flax_densenet.formulations.native.dense_block import dense_block
from flax_densenet.formulations.native.evaluation import evaluate_block
from flax_densenet.formulations.native.stem import evaluate_stem, train_stem
from flax_densenet.formulations.native.transition import transition
from flax_densenet.formulations.statistics import BatchStatistics

# What a thread needs of so many pixels fits its second cache, and there are chunks for all threads.
_CHUNKING = Chunking(pixels=1024, least=4)


def train(
    config: DenseNetConfig, params: Variables, image: Float[Array, "B H W C"], *, remat: bool
) -> tuple[Float[Array, "B D"], dict[Path, BatchStatistics]]:
    """Computes the pooled features on the statistics of the batch, as `chunked.train`."""
    parts = chunked.Training(_CHUNKING, train_stem, dense_block, transition, head)
    return chunked.train(parts, config, params, image, remat=remat)


@partial(jax.custom_jvp, nondiff_argnums=(0, 4))
def evaluate(
    config: DenseNetConfig,
    params: Variables,
    running: Variables,
    image: Float[Array, "B H W C"],
    remat: bool,
) -> Float[Array, "B D"]:
    """Computes the pooled features on the running statistics, as `chunked.evaluate`.

    Where a derivative is wanted, as with frozen statistics, `cache_blocked` computes everything.
    """
    parts = chunked.Evaluation(_CHUNKING, evaluate_stem, evaluate_block)
    return chunked.evaluate(parts, config, params, running, image, remat=remat)


@evaluate.defjvp
def _differentiate(
    config: DenseNetConfig, remat: bool, primals: tuple, tangents: tuple
) -> tuple[jax.Array, jax.Array]:
    return jax.jvp(partial(cache_blocked.evaluate, config, remat=remat), primals, tangents)
