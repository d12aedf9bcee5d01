"""One normalization, ReLU and convolution of a dense layer, chunk by chunk, and its gradient.

A convolution of one chunk is one matrix product and shifted additions. With few output channels, as
in a dense layer, a direct convolution uses a small part of the processor; [T, C] @ [C, P] uses
nearly all of it. Its gradients are two products with the shifted copies of the output's gradient.

Axes: G chunks, C channels that are read, K channels that are written, P pixels of a chunk (n images
x H x W); T = size^2 K, tap and output channel together.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from flax_densenet.implementations.chunks import read_chunk, write_chunk
from flax_densenet.implementations.statistics import (
    Normalization,
    Statistics,
    Sums,
    batch_statistics,
    norm_relu,
    norm_relu_gradient,
    parameter_gradients,
    through_statistics,
)

CHANNELS = 0  # axis of the channels in a chunk [C, P]


class Convolution(NamedTuple):
    """A convolution with stride 1 and zeros around the image.

    Attributes:
      size: Height and width of the kernel, odd.
      height: Of the images, in pixels.
      width: Of the images, in pixels.
    """

    size: int
    height: int
    width: int

    @property
    def _reach(self) -> range:
        return range(-(self.size // 2), self.size // 2 + 1)

    def add_taps(self, products: Float[Array, "T P"]) -> Float[Array, "K P"]:
        """Adds the products of all taps, each read beside its pixel."""
        if self.size == 1:
            return products
        taps = products.reshape(self.size**2, -1, *self._images(products))
        offsets = [(row, column) for column in self._reach for row in self._reach]
        total = sum(_shift(taps[i], *offset) for i, offset in enumerate(offsets))
        return jnp.reshape(total, (taps.shape[1], -1))

    def spread_taps(self, y: Float[Array, "K P"]) -> Float[Array, "T P"]:
        """Returns one shifted copy for each tap, the transpose of `add_taps`."""
        if self.size == 1:
            return y
        x = y.reshape(-1, *self._images(y))
        # One direction after the other: fewer loops for XLA to compile than size^2.
        x = jnp.concatenate([_shift(x, -row, 0) for row in self._reach])
        x = jnp.concatenate([_shift(x, 0, -column) for column in self._reach])
        return x.reshape(self.size**2 * y.shape[0], -1)

    def _images(self, x: Float[Array, "C P"]) -> tuple[int, int, int]:
        return x.shape[1] // (self.height * self.width), self.height, self.width


def kernel_matrix(kernel: Float[Array, "H W C K"]) -> Float[Array, "T C"]:
    """Returns a kernel as a matrix, whose rows go through columns, rows and output channels."""
    return kernel.transpose(1, 0, 3, 2).reshape(-1, kernel.shape[2])


def matrix_kernel(matrix: Float[Array, "T C"], size: int) -> Float[Array, "H W C K"]:
    """Returns the kernel of a matrix, the inverse of `kernel_matrix`."""
    return matrix.reshape(size, size, -1, matrix.shape[1]).transpose(1, 0, 3, 2)


def _shift(x: Float[Array, "K n H W"], row: int, column: int) -> Float[Array, "K n H W"]:
    """Returns for each pixel the one `row` below and `column` to the right of it."""
    # Negative padding cuts off: one loop, where jnp.pad and a slice are two.
    padding = [(0, 0, 0), (0, 0, 0), (-row, row, 0), (-column, column, 0)]
    return lax.pad(x, jnp.zeros((), x.dtype), padding)


class Stage(NamedTuple):
    """What is computed.

    Attributes:
      norm: The normalization of the C channels.
      kernel: [H, W, C, K].
      convolution: Its shape.
    """

    norm: Normalization
    kernel: Float[Array, "H W C K"]
    convolution: Convolution

    @property
    def num_inputs(self) -> int:
        """Channels that are read (C)."""
        return self.kernel.shape[2]

    @property
    def num_outputs(self) -> int:
        """Channels that are written (K)."""
        return self.kernel.shape[3]


class StageGradients(NamedTuple):
    """Gradients for a stage's parameters and for the statistics of its input.

    Attributes:
      norm: {"scale", "bias"}, each [C].
      kernel: [H, W, C, K].
      statistics: Each [C].
    """

    norm: dict[str, jax.Array]
    kernel: jax.Array
    statistics: Statistics


def forward(
    stage: Stage, source: Float[Array, "G C P"] | None, target: Float[Array, "G D P"], start: int
) -> tuple[Float[Array, "G D P"], Statistics]:
    """Writes the stage's output.

    Args:
      stage: What to compute.
      source: Its first C channels are read; None reads those of `target`.
      target: Its K channels from `start` on are written.
      start: First channel that is written.

    Returns:
      The target, and the statistics of what was written.
    """
    num_chunks, outputs = target.shape[0], stage.num_outputs
    matrix = kernel_matrix(stage.kernel)

    def body(chunk: jax.Array, carry: tuple) -> tuple:
        target, means, variances = carry
        x = read_chunk(target if source is None else source, chunk, 0, stage.num_inputs)
        y = stage.convolution.add_taps(matrix @ norm_relu(stage.norm, x, CHANNELS))
        mean, var = batch_statistics(y, CHANNELS)
        target = write_chunk(target, y, chunk, start)
        return target, write_chunk(means, mean, chunk, 0), write_chunk(variances, var, chunk, 0)

    empty = jnp.zeros((num_chunks, outputs), target.dtype)
    target, *chunks = lax.fori_loop(0, num_chunks, body, (target, empty, empty))
    return target, merge_statistics(Statistics(*chunks))


def backward(
    stage: Stage,
    source: Float[Array, "G C P"],
    target: Float[Array, "G D P"],
    start: int,
    grad_target: Float[Array, "G D P"] | None,
    grad_source: Float[Array, "G C P"],
    statistics: Statistics,
    grad_statistics: Statistics,
    *,
    adds: bool,
) -> tuple[Float[Array, "G C P"], StageGradients]:
    """Returns the gradients of a stage.

    Args:
      stage: What was computed.
      source: What was read.
      target: What was written, from `start` on.
      start: First channel that was written.
      grad_target: Gradient for `target`; None takes it from `grad_source`.
      grad_source: Gradient for `source`, to which the stage's part is added.
      statistics: Of the K channels that were written.
      grad_statistics: Gradient for these.
      adds: False replaces `grad_source` instead of adding to it.

    Returns:
      The new `grad_source`, and the gradients of the stage.
    """
    num_chunks, _, pixels = source.shape
    inputs, outputs = stage.num_inputs, stage.num_outputs
    transposed = materialize(kernel_matrix(stage.kernel).T)  # or each chunk transposes it

    def body(chunk: jax.Array, carry: tuple) -> tuple:
        grad_source, grad_matrix, sums = carry
        x = read_chunk(source, chunk, 0, inputs)
        y = norm_relu(stage.norm, x, CHANNELS)
        output = read_chunk(target, chunk, start, outputs)
        grad_output = read_chunk(
            grad_source if grad_target is None else grad_target, chunk, start, outputs
        )
        grad_output += through_statistics(
            output, statistics, grad_statistics, num_chunks * pixels, CHANNELS
        )
        taps = stage.convolution.spread_taps(materialize(grad_output))
        grad_x, part = norm_relu_gradient(stage.norm, x, y, transposed @ taps, CHANNELS)
        if adds:
            grad_x += read_chunk(grad_source, chunk, 0, inputs)
        # The larger operand first: XLA's product is faster that way round.
        return write_chunk(grad_source, grad_x, chunk, 0), grad_matrix + y @ taps.T, sums.plus(part)

    zeros = jnp.zeros((inputs,), source.dtype)
    start_values = (grad_source, jnp.zeros_like(transposed), Sums(zeros, zeros))
    grad_source, grad_matrix, sums = lax.fori_loop(0, num_chunks, body, start_values)
    grad_norm, grad_input_statistics = parameter_gradients(stage.norm, sums)
    grad_kernel = matrix_kernel(grad_matrix.T, stage.convolution.size)
    return grad_source, StageGradients(grad_norm, grad_kernel, grad_input_statistics)


def merge_statistics(chunks: Statistics) -> Statistics:
    """Returns the statistics of all chunks from the statistics of each: [G, C] -> [C].

    The variance is the mean variance plus the variance of the means: exact for chunks of one size.
    """
    mean = jnp.mean(chunks.mean, axis=0)
    spread = jnp.mean(jnp.square(chunks.mean - mean), axis=0)
    return Statistics(mean, jnp.mean(chunks.var, axis=0) + spread)


def materialize(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Has `x` computed once, where XLA would compute it again in each of its readers."""
    return lax.optimization_barrier(x)
