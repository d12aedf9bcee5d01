"""Which of the two ways a network is computed in."""

import jax

from flax_densenet.config import DenseNetConfig
from flax_densenet.errors import InputError
from flax_densenet.formulation import Formulation


def is_cache_blocked(
    formulation: Formulation,
    config: DenseNetConfig,
    *,
    train: bool,
    axis_name: str | None,
    captured: bool,
) -> bool:
    """Returns whether to compute cache-blocked (`flax_densenet.cache_blocked`), not plain.

    Args:
      formulation: What is asked for; "auto" is cache-blocked on a single CPU device where that is
        possible, and plain elsewhere.
      config: The network.
      train: Whether it is trained.
      axis_name: Mapped axis of `pmap`, if any.
      captured: Whether outputs are captured, of which "auto" then leaves none out.

    Raises:
      InputError: Cache-blocked is asked for and not possible.
    """
    if formulation == "plain":
        return False
    obstacle = None
    if config.dtype == "bfloat16":
        obstacle = "bfloat16"
    elif train and config.dropout_rate > 0:
        obstacle = "dropout in training"
    elif axis_name is not None:
        obstacle = "pmap"
    if formulation == "cache_blocked" and obstacle:
        raise InputError(
            f"formulation (=cache_blocked) has no {obstacle}; use auto, which chooses plain for it"
        )
    return obstacle is None and (
        formulation == "cache_blocked"
        or (not captured and jax.default_backend() == "cpu" and jax.device_count() == 1)
    )
