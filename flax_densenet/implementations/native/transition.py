"""The compiled transition, in training with its gradient.

Axes: G chunks, C channels, D those behind it, P pixels of a chunk, p those after pooling.
"""

from functools import partial

import jax
from jaxtyping import Array, Float

from flax_densenet.implementations.native.calls import call
from flax_densenet.implementations.statistics import Statistics
from flax_densenet.implementations.walk import BlockOptions, Layer


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def transition(
    options: BlockOptions, params: Layer, x: Float[Array, "G C P"], statistics: Statistics
) -> Float[Array, "G D p"]:
    """Computes a transition on the given statistics.

    Args:
      options: What is fixed.
      params: "norm" with "scale" and "bias", "conv" with "kernel".
      x: [G, C, P].
      statistics: Each [C].
    """
    return _forward(options, params, x, statistics)[0]


def pooled_shape(options: BlockOptions, kernel: jax.Array, x: jax.Array) -> jax.ShapeDtypeStruct:
    """Returns what is behind a transition with this kernel."""
    images = x.shape[2] // (options.height * options.width)
    pixels = images * (options.height // 2) * (options.width // 2)
    return jax.ShapeDtypeStruct((x.shape[0], kernel.shape[3], pixels), x.dtype)


def _forward(
    options: BlockOptions, params: Layer, x: jax.Array, statistics: Statistics
) -> tuple[jax.Array, tuple]:
    norm, kernel = params["norm"], params["conv"]["kernel"]
    given = (x, *statistics, norm["scale"], norm["bias"], kernel)
    y = call(
        "transition", pooled_shape(options, kernel, x), *given, attributes=_attributes(options)
    )
    return y, given


def _backward(
    options: BlockOptions, given: tuple, gradient: jax.Array
) -> tuple[Layer, jax.Array, Statistics]:
    results = tuple(jax.ShapeDtypeStruct(array.shape, given[0].dtype) for array in given)
    of_x, of_mean, of_var, of_scale, of_bias, of_kernel = call(
        "transition_gradient", results, *given, gradient, attributes=_attributes(options)
    )
    of_params = {"norm": {"scale": of_scale, "bias": of_bias}, "conv": {"kernel": of_kernel}}
    return of_params, of_x, Statistics(of_mean, of_var)


def _attributes(options: BlockOptions) -> dict[str, int | float]:
    return {"height": options.height, "width": options.width, "epsilon": options.epsilon}


transition.defvjp(_forward, _backward)
