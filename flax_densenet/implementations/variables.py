"""Computes the features of a Flax module with the functions of an implementation.

Axes: B batch, H height, W width, C channels, D pooled features.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
from flax import traverse_util
from flax.core import unfreeze
from jaxtyping import Array, Float

from flax_densenet.errors import InputError
from flax_densenet.implementations import blocked, gpu, native
from flax_densenet.implementations.choose import ChosenImplementation, choose_combine
from flax_densenet.implementations.statistics import BatchStatistics
from flax_densenet.implementations.walk import Path
from flax_densenet.network.batch_norm import update_running
from flax_densenet.network.config import DenseNetConfig
from flax_densenet.network.layers import flax_arrays

# As a whole: outside of jit, JAX would compile each loop in them anew at every call.
_TRAIN = {
    "native": jax.jit(native.train, static_argnames=("config", "remat")),
    "blocked": jax.jit(blocked.train, static_argnames=("config", "remat")),
    "gpu": jax.jit(gpu.train, static_argnames=("config", "remat")),
}
_EVALUATE = {
    "native": jax.jit(native.evaluate, static_argnames=("config", "remat")),
    "blocked": jax.jit(blocked.evaluate, static_argnames=("config", "remat")),
    "gpu": jax.jit(gpu.evaluate, static_argnames=("config", "remat")),
}


def apply(
    implementation: ChosenImplementation,
    module: nn.Module,
    config: DenseNetConfig,
    image: Float[Array, "B H W C"],
    *,
    train: bool,
    remat: bool,
) -> Float[Array, "B D"]:
    """Computes the pooled features with the variables of the module's submodules.

    Args:
      implementation: Any but "plain", which the modules compute.
      module: The network, whose submodules have torchvision's names.
      config: Its description.
      image: [B, H, W, C] of the configuration's dtype.
      train: Whether batch normalization uses the batch's statistics and updates the running ones.
      remat: Compute more again in the backward pass, and keep less.

    Returns:
      The pooled features, [B, D].

    Raises:
      InputError: The variables are not those of such a network.
    """
    params, running = _checked_variables(config, module.variables)
    if not train:
        return _EVALUATE[implementation](config, params, running, image, remat)
    x, seen = _TRAIN[implementation](config, params, image, remat=remat)
    for name, statistics in _updated(implementation, config, running, seen).items():
        module.put_variable("batch_stats", name, statistics)
    return x


def _updated(
    implementation: ChosenImplementation,
    config: DenseNetConfig,
    running: dict[str, Any],
    seen: Mapping[Path, BatchStatistics],
) -> dict[str, Any]:
    """Returns the running statistics after a batch, those of a block at a time."""
    before = traverse_util.flatten_dict(running)
    after: dict[Path, Any] = {}
    for count in {batch.num_values for batch in seen.values()}:
        batch = {path: b.statistics for path, b in seen.items() if b.num_values == count}
        means, variances = update_running(
            ({p: before[*p, "mean"] for p in batch}, {p: before[*p, "var"] for p in batch}),
            ({p: s.mean for p, s in batch.items()}, {p: s.var for p, s in batch.items()}),
            count,
            config.batch_norm_momentum,
            choose_combine(implementation),
        )
        after |= {(*path, "mean"): mean for path, mean in means.items()}
        after |= {(*path, "var"): var for path, var in variances.items()}
    return traverse_util.unflatten_dict(after)


def _checked_variables(
    config: DenseNetConfig, variables: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns parameters and running statistics as nested dicts, without what is not the network's.

    Submodules would check them when they are called, which they are not here.
    """
    found = traverse_util.flatten_dict(unfreeze(dict(variables)))
    wanted = {array.path: array.shape for array in flax_arrays(config)}
    for path, shape in wanted.items():
        if path not in found or found[path].shape != shape:
            got = f"has shape {found[path].shape}" if path in found else "is missing"
            raise InputError(
                f"{'/'.join(path)} {got}; {config.title} wants {shape}; use the configuration that "
                "the variables were made with"
            )
    checked = traverse_util.unflatten_dict({path: found[path] for path in wanted})
    return checked["params"], checked["batch_stats"]
