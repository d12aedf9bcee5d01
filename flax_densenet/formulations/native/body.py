"""Everything between the stem and the classifier, with compiled dense blocks.

Axes: B batch, H height, W width, C channels, D pooled features.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
from jaxtyping import Array, Float

from flax_densenet.config import DenseNetConfig
from flax_densenet.formulations import cache_blocked
from flax_densenet.formulations.native.dense_block import dense_block, evaluate_block
from flax_densenet.formulations.statistics import BatchStatistics

# What a thread needs of so many pixels fits its second cache, and there are chunks for all threads.
_PIXELS = 1024

Path = tuple[str, ...]


def train(
    config: DenseNetConfig, params: Mapping[str, Any], x: Float[Array, "B H W C"], *, remat: bool
) -> tuple[Float[Array, "B D"], dict[Path, BatchStatistics]]:
    """Computes blocks and transitions on the statistics of the batch, as `cache_blocked.train`."""
    return cache_blocked.train(
        config, params, x, remat=remat, compute_block=dense_block, pixels=_PIXELS
    )


@partial(jax.custom_jvp, nondiff_argnums=(0, 4))
def evaluate(
    config: DenseNetConfig,
    params: Mapping[str, Any],
    running: Mapping[str, Any],
    x: Float[Array, "B H W C"],
    remat: bool,
) -> Float[Array, "B D"]:
    """Computes blocks and transitions on the running statistics, as `cache_blocked.evaluate`.

    Where a derivative is wanted, as with frozen statistics, that function computes everything.
    """
    return cache_blocked.evaluate(
        config, params, running, x, compute_block=evaluate_block, pixels=_PIXELS
    )


@evaluate.defjvp
def _differentiate(
    config: DenseNetConfig, remat: bool, primals: tuple, tangents: tuple
) -> tuple[jax.Array, jax.Array]:
    return jax.jvp(partial(cache_blocked.evaluate, config, remat=remat), primals, tangents)
