"""Everything between the stem and the classifier, in training and in evaluation.

Axes: B batch, H height, W width, C channels; G chunks, P pixels of a chunk.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from flax_densenet.config import DenseNetConfig
from flax_densenet.formulations.block import BlockOptions, BlockOutput, Layer
from flax_densenet.formulations.cache_blocked.chunks import resize_chunks, to_chunks
from flax_densenet.formulations.cache_blocked.convolution import Convolution, kernel_matrix
from flax_densenet.formulations.cache_blocked.dense_block import dense_block
from flax_densenet.formulations.cache_blocked.normalization import norm_relu
from flax_densenet.formulations.cache_blocked.pooling import Window, norm_relu_pool
from flax_densenet.formulations.statistics import BatchStatistics, Statistics, normalization

Path = tuple[str, ...]
DenseBlock = Callable[[BlockOptions, Sequence[Layer], jax.Array], BlockOutput]
EvaluatedBlock = Callable[[BlockOptions, Sequence[Layer], Sequence[Layer], jax.Array], jax.Array]


def train(
    config: DenseNetConfig,
    params: Mapping[str, Any],
    x: Float[Array, "B H W C"],
    *,
    remat: bool,
    compute_block: DenseBlock = dense_block,
    pixels: int | None = None,
) -> tuple[Float[Array, "B D"], dict[Path, BatchStatistics]]:
    """Computes blocks and transitions on the statistics of the batch.

    Args:
      config: The network, without dropout.
      params: Its parameters under torchvision's names.
      x: Output of the stem, [B, H, W, C].
      remat: Compute the bottlenecks again in the backward pass instead of keeping them.
      compute_block: What computes a dense block.
      pixels: About how many of them form a chunk; None: what suits this formulation.

    Returns:
      The pooled features [B, D], and the statistics of every normalization under its path.
    """
    batch_size, height, width, _ = x.shape
    x = to_chunks(x, pixels)
    seen: dict[Path, BatchStatistics] = {}
    last_block = len(config.block_sizes)
    for block, num_layers in enumerate(config.block_sizes, start=1):
        names = [(f"denseblock{block}", f"denselayer{i}") for i in range(1, num_layers + 1)]
        (layers,) = _layers(config, block, params)
        options = BlockOptions(height, width, config.batch_norm_epsilon, remat)
        channels, count = x.shape[1], batch_size * height * width
        x, statistics, inner_statistics = compute_block(options, layers, x)
        for number, name in enumerate(names):
            read = statistics.prefix(channels + number * config.growth_rate)
            seen[*name, "norm1"] = BatchStatistics(read, count)
            if inner_statistics:
                seen[*name, "norm2"] = BatchStatistics(inner_statistics[number], count)
        path = _norm_after(block, last_block)
        seen[path] = BatchStatistics(statistics, count)
        window = _window_after(block, last_block, height, width)
        x = norm_relu_pool(window, config.batch_norm_epsilon, _get(params, path), x, statistics)
        height, width = window.pooled_height, window.pooled_width
        if block != last_block:
            x = resize_chunks(_transition_convolution(params, block, x), height, width, pixels)
    return x.swapaxes(1, 2).reshape(batch_size, -1), seen


def evaluate(
    config: DenseNetConfig,
    params: Mapping[str, Any],
    running: Mapping[str, Any],
    x: Float[Array, "B H W C"],
    remat: bool = False,
    *,
    compute_block: EvaluatedBlock | None = None,
    pixels: int | None = None,
) -> Float[Array, "B D"]:
    """Computes blocks and transitions on the running statistics.

    Nothing depends on the rest of the batch, so a chunk passes through a whole block before the
    next one does, and only its pooled output is kept.

    Args:
      config: The network.
      params: Its parameters under torchvision's names.
      running: Its running statistics, likewise.
      x: Output of the stem, [B, H, W, C].
      remat: In a backward pass, as of a training with frozen statistics, compute each chunk of a
        block again instead of keeping its activations.
      compute_block: What computes the layers of a block, for all chunks; None does that here.
      pixels: About how many of them form a chunk; None: what suits this formulation.

    Returns:
      The pooled features [B, D].
    """
    batch_size, height, width, _ = x.shape
    x = to_chunks(x, pixels)
    last_block = len(config.block_sizes)

    for block in range(1, last_block + 1):
        window = _window_after(block, last_block, height, width)
        if compute_block is None:
            through_block = partial(_evaluate_block, config, params, running, block, window)
        else:
            options = BlockOptions(height, width, config.batch_norm_epsilon, remat)
            layers, statistics = _layers(config, block, params, running)
            x = compute_block(options, layers, statistics, x)
            through_block = partial(_normalize_and_pool, config, params, running, block, window)
        x = lax.map(jax.checkpoint(through_block) if remat else through_block, x)
        height, width = window.pooled_height, window.pooled_width
        if block != last_block:
            x = resize_chunks(_transition_convolution(params, block, x), height, width, pixels)
    return x.swapaxes(1, 2).reshape(batch_size, -1)


def _layers(config: DenseNetConfig, block: int, *variables: Mapping[str, Any]) -> list[list[Layer]]:
    """Returns the layers of a block in each of the variables."""
    numbers = range(1, config.block_sizes[block - 1] + 1)
    return [[tree[f"denseblock{block}"][f"denselayer{i}"] for i in numbers] for tree in variables]


def _evaluate_block(
    config: DenseNetConfig,
    params: Mapping[str, Any],
    running: Mapping[str, Any],
    block: int,
    window: Window,
    x: Float[Array, "C P"],
) -> Float[Array, "D p"]:
    """Takes a chunk through a block, and the normalization, ReLU and pooling behind it."""
    activation = partial(_activation, config, params, running)
    num_layers = config.block_sizes[block - 1]
    channels = x.shape[0]
    joined = channels + num_layers * config.growth_rate
    features = lax.dynamic_update_slice(jnp.zeros((joined, x.shape[1]), x.dtype), x, (0, 0))
    for i in range(1, num_layers + 1):
        layer = (f"denseblock{block}", f"denselayer{i}")
        y = features[:channels]
        for number in range(1, config.convolutions_per_layer + 1):
            kernel = _get(params, (*layer, f"conv{number}", "kernel"))
            convolution = Convolution(kernel.shape[0], window.height, window.width)
            y = activation((*layer, f"norm{number}"), y)
            y = convolution.add_taps(kernel_matrix(kernel) @ y)
        features = lax.dynamic_update_slice(features, y, (channels, 0))
        channels += config.growth_rate
    return _normalize_and_pool(config, params, running, block, window, features)


def _normalize_and_pool(
    config: DenseNetConfig,
    params: Mapping[str, Any],
    running: Mapping[str, Any],
    block: int,
    window: Window,
    x: Float[Array, "C P"],
) -> Float[Array, "C p"]:
    path = _norm_after(block, len(config.block_sizes))
    return window.pool(_activation(config, params, running, path, x))


def _activation(
    config: DenseNetConfig,
    params: Mapping[str, Any],
    running: Mapping[str, Any],
    path: Path,
    x: Float[Array, "C P"],
) -> Float[Array, "C P"]:
    statistics = Statistics(**_get(running, path))
    return norm_relu(normalization(_get(params, path), statistics, config.batch_norm_epsilon), x)


def _norm_after(block: int, last_block: int) -> Path:
    return ("norm5",) if block == last_block else (f"transition{block}", "norm")


def _window_after(block: int, last_block: int, height: int, width: int) -> Window:
    return Window(height, width, *((height, width) if block == last_block else (2, 2)))


def _transition_convolution(
    params: Mapping[str, Any], block: int, x: Float[Array, "G C P"]
) -> Float[Array, "G D P"]:
    matrix = kernel_matrix(params[f"transition{block}"]["conv"]["kernel"])
    return jnp.einsum("dc,gcp->gdp", matrix, x)


def _get(tree: Mapping[str, Any], path: Path) -> Any:
    for name in path:
        tree = tree[name]
    return tree
