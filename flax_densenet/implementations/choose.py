"""Chooses the implementation for a network and device.

Importing it does not import JAX, for the command line needs its names alone.
"""

from typing import Literal

from flax_densenet.errors import InputError
from flax_densenet.network.config import DenseNetConfig

ChosenImplementation = Literal["plain", "native", "blocked", "gpu"]
Implementation = Literal["auto", ChosenImplementation]


def choose_implementation(
    implementation: Implementation,
    config: DenseNetConfig,
    *,
    train: bool,
    axis_name: str | None,
    captured: bool,
) -> ChosenImplementation:
    """Returns the implementation that computes the features.

    Obstacles are looked for first: whether the native kernels are available may take compiling
    them, and nothing compiles kernels that cannot be used.

    Args:
      implementation: The one that is asked for. "auto" is native on a single CPU device, or blocked
        where nothing can be compiled, gpu on GPUs, and plain elsewhere or where these cannot
        compute the network.
      config: The network.
      train: Whether it is trained.
      axis_name: Mapped axis of `pmap`, if any.
      captured: Whether outputs inside the network are captured, for which "auto" is plain.

    Raises:
      InputError: The implementation that is asked for cannot compute the network here.
    """
    import jax

    from flax_densenet.implementations import native

    wanted = implementation
    if wanted == "auto":
        wanted = "plain" if captured else _fastest(jax.default_backend(), jax.device_count())
    obstacle = _obstacle(wanted, config, train, axis_name)
    if implementation == "auto":
        if obstacle:
            return "plain"
        return "blocked" if wanted == "native" and not native.is_available() else wanted
    if not obstacle and wanted == "native" and not native.is_available():
        obstacle = "C++ compiler that works (g++, clang++ or what CXX names) on this Linux machine"
    if obstacle:
        raise InputError(
            f"implementation (={implementation}) has no {obstacle}; use auto, which chooses plain "
            "for it"
        )
    return wanted


def _fastest(backend: str, num_devices: int) -> ChosenImplementation:
    if backend == "gpu":
        return "gpu"
    return "native" if backend == "cpu" and num_devices == 1 else "plain"


def _obstacle(
    implementation: ChosenImplementation, config: DenseNetConfig, train: bool, axis_name: str | None
) -> str | None:
    """Returns what the implementation lacks for this use of the network."""
    if implementation == "plain":
        return None
    if config.options:
        return ", ".join(f"{name} {value}" for name, value in config.options.items())
    if implementation != "gpu" and config.dtype == "bfloat16":
        return "bfloat16"
    if train and config.dropout_rate > 0:
        return "dropout in training"
    return None if axis_name is None else "pmap"
