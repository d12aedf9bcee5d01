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
    if obstacle:
        raise InputError(
            f"implementation (={implementation}) has no {obstacle}; use auto, which chooses plain "
            "for it"
        )
    if wanted == "native" and (reason := native.why_unavailable()) is not None:
        raise InputError(
            f"implementation (={implementation}) needs kernels that cannot be had here: {reason}; "
            "use auto, which chooses blocked for it"
        )
    return wanted


def describe_choice(
    implementation: Implementation, config: DenseNetConfig, *, axis_name: str | None
) -> str:
    """Returns what computes a training, and why it is not the fastest there is.

    Args:
      implementation: The one that is asked for.
      config: The network.
      axis_name: Mapped axis of `pmap`, if any.

    Raises:
      InputError: As for `choose_implementation`.
    """
    import jax

    from flax_densenet.implementations import native

    chosen = choose_implementation(
        implementation, config, train=True, axis_name=axis_name, captured=False
    )
    num_devices = jax.device_count()
    fastest = _fastest(jax.default_backend(), num_devices)
    if chosen == fastest:
        on_several = jax.default_backend() == "cpu" and num_devices > 1
        return f"{chosen}, for native needs a single CPU device" if on_several else chosen
    if implementation != "auto":
        return f"{chosen}, as asked for; auto may be faster"
    if (obstacle := _obstacle(fastest, config, True, axis_name)) is not None:
        return f"{chosen}, for {fastest}, which is faster, has no {obstacle}"
    return f"{chosen}, which is slower than {fastest}: {native.why_unavailable()}"


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
