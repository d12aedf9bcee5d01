"""Verification of an exported network: it runs beside ours before it is written.

Axes: B batch, H height, W width, C channels, K classes.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import Float64

from flax_densenet.densenet import DenseNet
from flax_densenet.errors import InputError, NetworksDiffer
from flax_densenet.export.interface import Interface
from flax_densenet.network.config import DenseNetConfig

# Largest difference, as a share of the largest logit. The exported network computes in float32,
# whose rounding is 6e-8 per operation and grows over the layers to some 1e-6; a wrong layer shows
# in the first digits.
_ALLOWED = 1e-5
_USUAL_SIZE = 32  # pixels, or as many as the network needs
_BATCHES = ((2, 0, 0), (3, 9, 14))  # batch size, and rows and columns beyond it where they are free


def verify(
    run: Callable[[np.ndarray], np.ndarray],
    config: DenseNetConfig,
    variables: Mapping[str, Any],
    interface: Interface,
) -> float:
    """Compares logits with our network in float64, on the CPU, for two random batches.

    Args:
      run: The exported network.
      config: Ours.
      variables: {"params", "batch_stats"}.
      interface: What the exported network takes.

    Returns:
      The largest difference, as a share of the largest logit.

    Raises:
      InputError: The network has no finite logits, or JAX no CPU.
      NetworksDiffer: The difference is more than rounding.
    """
    with jax.default_device(_cpu()):
        worst = _largest_difference(run, config, variables, interface)
    if not worst <= _ALLOWED:
        raise NetworksDiffer(
            f"the exported network is not equal to {config.title}, and is not written: its logits "
            f"differ by {worst:.1e} of the largest, allowed is {_ALLOWED:.0e}; report it as a fault"
        )
    return worst


def _cpu() -> jax.Device:
    """Returns the CPU, which really computes in float32 and float64."""
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError as error:
        platforms = jax.config.jax_platforms  # type: ignore[attr-defined]
        raise InputError(
            f"JAX_PLATFORMS (={platforms}) leaves out the CPU, on which exported "
            "networks are verified; add cpu to it, after a comma"
        ) from error


def _largest_difference(
    run: Callable[[np.ndarray], np.ndarray],
    config: DenseNetConfig,
    variables: Mapping[str, Any],
    interface: Interface,
) -> float:
    random = np.random.default_rng(0)
    size = max(_USUAL_SIZE, config.min_image_size)
    differences = []
    for batch, rows, columns in _BATCHES:
        height, width = interface.image_size or (size + rows, size + columns)
        shape = (batch, height, width, interface.channels)
        if interface.is_uint8 and interface.statistics:
            image = random.integers(0, 256, shape, np.uint8)
            mean, std = (np.asarray(value, np.float64) for value in interface.statistics)
            normalized = (image - mean) / std
        else:
            image = random.normal(size=shape).astype(np.float32)
            normalized = image.astype(np.float64)
        ours = _logits(config, variables, normalized)
        if not np.isfinite(ours).all():
            raise InputError(
                "the checkpoint's network gives logits that are not finite for random images, so "
                "that nothing can be compared; export one without NaN and infinity"
            )
        theirs = run(image.transpose(["BHWC".index(axis) for axis in interface.axes]))
        scale = max(np.abs(ours).max(), np.finfo(np.float32).tiny)
        differences.append(np.abs(theirs - ours).max() / scale)
    return float(np.max(differences))  # NaN if one of them is


def _logits(
    config: DenseNetConfig, variables: Mapping[str, Any], image: Float64[np.ndarray, "B H W C"]
) -> Float64[np.ndarray, "B K"]:
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda array: np.asarray(array).astype(np.float64), variables)
        model = DenseNet(dataclasses.replace(config, dtype="float64"), implementation="plain")
        apply = jax.jit(lambda variables, x: model.apply(variables, x, train=False))
        return np.asarray(apply(wide, image))
