"""Computes the features of a Flax module with the functions of an implementation.

Axes: B batch, H height, W width, C channels, D pooled features.
"""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
from flax import traverse_util
from flax.core import unfreeze
from jaxtyping import Array, Float

from flax_densenet.errors import InputError
from flax_densenet.implementations import blocked, gpu, native
from flax_densenet.implementations.choose import ChosenImplementation
from flax_densenet.network.config import DenseNetConfig
from flax_densenet.network.layers import flax_arrays

_TRAIN: dict[str, Callable[..., Any]] = {
    "native": native.train,
    "blocked": blocked.train,
    "gpu": gpu.train,
}
_EVALUATE: dict[str, Callable[..., Any]] = {
    "native": native.evaluate,
    "blocked": blocked.evaluate,
    "gpu": gpu.evaluate,
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
        return _EVALUATE[implementation](config, params, running, image, remat=remat)
    x, updated = _TRAIN[implementation](config, params, running, image, remat=remat)
    for name, statistics in updated.items():
        module.put_variable("batch_stats", name, statistics)
    return x


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
