"""What is behind a block: transition, or normalization, ReLU and pooling of everything.

Axes: G chunks, C channels, P pixels of a chunk, p those after pooling.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from flax_densenet.formulations.block import BlockOptions, Layer
from flax_densenet.formulations.cache_blocked.convolution import kernel_matrix
from flax_densenet.formulations.cache_blocked.pooling import Window, norm_relu_pool
from flax_densenet.formulations.statistics import Statistics


def transition_window(options: BlockOptions) -> Window:
    """Returns what a transition averages."""
    return Window(options.height, options.width, 2, 2)


def head_window(options: BlockOptions) -> Window:
    """Returns what is averaged behind the last block."""
    return Window(options.height, options.width, options.height, options.width)


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
    window = transition_window(options)
    x = norm_relu_pool(window, options.epsilon, params["norm"], x, statistics)
    return transition_convolution(params, x)


def head(
    options: BlockOptions, norm: Layer, x: Float[Array, "G C P"], statistics: Statistics
) -> Float[Array, "G C n"]:
    """Computes the last normalization, ReLU and the mean over each image.

    Args:
      options: What is fixed.
      norm: "scale" and "bias".
      x: [G, C, P].
      statistics: Each [C].
    """
    return norm_relu_pool(head_window(options), options.epsilon, norm, x, statistics)


def transition_convolution(params: Layer, x: Float[Array, "G C P"]) -> jax.Array:
    """Applies a transition's 1x1 convolution: [G, C, P] -> [G, D, P]."""
    return jnp.einsum("dc,gcp->gdp", kernel_matrix(params["conv"]["kernel"]), x)
