"""Compiled transitions in training, with their gradients.

Axes: G chunks, C channels before it, D after it, P pixels of a chunk, p after pooling.
"""

from functools import partial

import jax
from jaxtyping import Array, Float

from flax_densenet.implementations.native.calls import call
from flax_densenet.implementations.statistics import Statistics
from flax_densenet.implementations.walk import BlockSettings, Layer


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def transition(
    settings: BlockSettings, params: Layer, x: Float[Array, "G C P"], statistics: Statistics
) -> Float[Array, "G D p"]:
    """Computes a transition on the given statistics.

    Args:
      settings: Constants of the compiled program.
      params: "norm" with "scale" and "bias" [C], "conv" with "kernel" [1, 1, C, D].
      x: Maps [G, C, P].
      statistics: Statistics of x, each [C].

    Returns:
      The maps after pooling [G, D, p].
    """
    return _forward(settings, params, x, statistics)[0]


def pooled_shape(settings: BlockSettings, kernel: jax.Array, x: jax.Array) -> jax.ShapeDtypeStruct:
    """Returns the shape and type of the result of a transition with this kernel."""
    images = x.shape[2] // (settings.height * settings.width)
    pixels = images * (settings.height // 2) * (settings.width // 2)
    return jax.ShapeDtypeStruct((x.shape[0], kernel.shape[3], pixels), x.dtype)


def _forward(
    settings: BlockSettings, params: Layer, x: jax.Array, statistics: Statistics
) -> tuple[jax.Array, dict[str, jax.Array]]:
    norm, kernel = params["norm"], params["conv"]["kernel"]
    arrays = {
        "x": x,
        "mean": statistics.mean,
        "var": statistics.var,
        "scale": norm["scale"],
        "bias": norm["bias"],
        "kernel": kernel,
    }
    results, _ = call(
        "transition_forward",
        arrays,
        results={"y": pooled_shape(settings, kernel, x)},
        attributes=_attributes(settings),
    )
    return results["y"], arrays


def _backward(
    settings: BlockSettings, arrays: dict[str, jax.Array], grad_y: jax.Array
) -> tuple[Layer, jax.Array, Statistics]:
    dtype = arrays["x"].dtype
    grad, _ = call(
        "transition_backward",
        {**arrays, "grad_y": grad_y},
        results={
            f"grad_{name}": jax.ShapeDtypeStruct(array.shape, dtype)
            for name, array in arrays.items()
        },
        attributes=_attributes(settings),
    )
    grad_params = {
        "norm": {"scale": grad["grad_scale"], "bias": grad["grad_bias"]},
        "conv": {"kernel": grad["grad_kernel"]},
    }
    return grad_params, grad["grad_x"], Statistics(grad["grad_mean"], grad["grad_var"])


def _attributes(settings: BlockSettings) -> dict[str, int | float]:
    return {"height": settings.height, "width": settings.width, "epsilon": settings.epsilon}


transition.defvjp(_forward, _backward)
