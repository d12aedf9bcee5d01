"""Between a Flax module and the functions that compute for it.

Axes: B batch, H height, W width, C channels.
"""

from typing import Any

import flax.linen as nn
from flax import traverse_util
from jaxtyping import Array, Float

from flax_densenet.batch_norm import update_running
from flax_densenet.cache_blocked import body
from flax_densenet.config import DenseNetConfig


def apply(
    module: nn.Module,
    config: DenseNetConfig,
    x: Float[Array, "B H W C"],
    *,
    train: bool,
    remat: bool,
) -> Float[Array, "B D"]:
    """Computes blocks and transitions with the variables of the module's submodules.

    Args:
      module: The network, whose submodules have torchvision's names.
      config: Its description.
      x: Output of the stem, [B, H, W, C].
      train: Whether batch normalization uses the batch's statistics and updates the running ones.
      remat: Compute more again in the backward pass, and keep less.

    Returns:
      The pooled features, [B, D].
    """
    params, running = module.variables["params"], module.variables["batch_stats"]
    if not train:
        return body.evaluate(config, params, running, x)
    x, seen = body.train(config, params, x, remat=remat)
    before = traverse_util.flatten_dict(running)
    after: dict[tuple[str, ...], Any] = {}
    for path, ((mean, var), num_values) in seen.items():
        old = before[*path, "mean"], before[*path, "var"]
        after[*path, "mean"], after[*path, "var"] = update_running(
            old, (mean, var), num_values, config.batch_norm_momentum
        )
    for name, statistics in traverse_util.unflatten_dict(after).items():
        module.put_variable("batch_stats", name, statistics)
    return x
