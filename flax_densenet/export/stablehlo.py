"""The network as StableHLO, which JAX loads without this package.

It is made by `jax.export` (https://docs.jax.dev/en/latest/export/export.html).

Axes: B batch, H height, W width, C channels, K classes.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export
from jaxtyping import Array, Float, Shaped

from flax_densenet.densenet import DenseNet
from flax_densenet.export.interface import Interface
from flax_densenet.network.config import DenseNetConfig

PLATFORMS = ("cpu", "cuda")


def to_stablehlo(
    config: DenseNetConfig,
    variables: Mapping[str, Any],
    interface: Interface,
    *,
    tf32: bool = False,
) -> bytes:
    """Returns the serialized network, weights included, for every platform of `PLATFORMS`.

    Args:
      config: The network, of dtype float32.
      variables: {"params", "batch_stats"}.
      interface: What it takes, with axes "BHWC".
      tf32: Whether an NVIDIA GPU may round the factors of products to TF32.
    """
    # The other implementations depend on the batch size, or on the machine.
    model = DenseNet(config, implementation="plain")

    def logits(image: Shaped[Array, "B H W C"]) -> Float[Array, "B K"]:
        x = image.astype(jnp.float32)
        if interface.is_uint8 and interface.statistics:
            mean, std = (jnp.asarray(value, jnp.float32) for value in interface.statistics)
            x = (x - mean) / std
        return jnp.asarray(model.apply(variables, x, train=False))

    if interface.image_size is None:
        limits = [f"{size} >= {config.min_image_size}" for size in "hw"]
        shape = interface.shape(*export.symbolic_shape("b, h, w", constraints=limits))
    else:
        shape = interface.shape(*export.symbolic_shape("b"))
    dtype = jnp.uint8 if interface.is_uint8 else jnp.float32
    # The precision is part of the program: who loads the network cannot change it.
    with jax.default_matmul_precision("default" if tf32 else "highest"):
        make = export.export(jax.jit(logits), platforms=PLATFORMS)
        exported = make(jax.ShapeDtypeStruct(shape, dtype))
    return bytes(exported.serialize())


def load_stablehlo(serialized: bytes) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a function from images to logits."""
    call = jax.jit(export.deserialize(bytearray(serialized)).call)
    return lambda image: np.asarray(call(image))
