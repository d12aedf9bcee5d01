"""Which of the ways a network is computed in."""

import jax

from flax_densenet.combination import Combine, combine_each
from flax_densenet.config import DenseNetConfig
from flax_densenet.errors import InputError
from flax_densenet.formulation import ChosenFormulation, Formulation
from flax_densenet.formulations import native


def choose_formulation(
    formulation: Formulation,
    config: DenseNetConfig,
    *,
    train: bool,
    axis_name: str | None,
    captured: bool,
) -> ChosenFormulation:
    """Returns the way to compute.

    Args:
      formulation: What is asked for. "auto" is native on a single CPU device, or cache-blocked
        where nothing can be compiled, and shares statistics on GPUs, if that is possible; it is
        plain elsewhere.
      config: The network.
      train: Whether it is trained.
      axis_name: Mapped axis of `pmap`, if any.
      captured: Whether outputs are captured, of which "auto" then leaves none out.

    Raises:
      InputError: The way that is asked for is not possible.
    """
    wanted = formulation
    if wanted == "auto":
        wanted = "plain" if captured else _fastest_here()
    obstacle = _obstacle(wanted, config, train, axis_name)
    if obstacle and formulation != "auto":
        raise InputError(
            f"formulation (={formulation}) has no {obstacle}; use auto, which chooses plain for it"
        )
    return "plain" if obstacle else wanted


def choose_combine(formulation: ChosenFormulation) -> Combine:
    """Returns how trees of arrays are added up where the network is computed in a way."""
    return native.combine if formulation == "native" else combine_each


def _fastest_here() -> ChosenFormulation:
    if jax.default_backend() == "gpu":
        return "shared_statistics"
    is_single_cpu = jax.default_backend() == "cpu" and jax.device_count() == 1
    if not is_single_cpu:
        return "plain"
    return "native" if native.is_available() else "cache_blocked"


def _obstacle(
    formulation: ChosenFormulation, config: DenseNetConfig, train: bool, axis_name: str | None
) -> str | None:
    """Returns what the formulation cannot do."""
    if formulation == "plain":
        return None
    if config.options:
        return ", ".join(f"{name} {value}" for name, value in config.options.items())
    if formulation in ("cache_blocked", "native") and config.dtype == "bfloat16":
        return "bfloat16"
    if formulation == "native" and not native.is_available():
        return "C++ compiler that works (g++, clang++ or what CXX names) on this Linux machine"
    if train and config.dropout_rate > 0:
        return "dropout in training"
    return None if axis_name is None else "pmap"
