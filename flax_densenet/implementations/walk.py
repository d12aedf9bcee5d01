"""What a dense block is given and returns where it is one differentiable function.

Axes: D channels after the block; the others are the implementation's, G chunks and P pixels of each,
or B batch, H height and W width.

Axes: B batch, H height, W width, C channels; G chunks, P pixels of a chunk, p those after pooling.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
from jaxtyping import Array, Float

from flax_densenet.implementations.chunks import Chunking, resize_chunks, to_chunks
from flax_densenet.implementations.statistics import BatchStatistics, Statistics
from flax_densenet.network.config import DenseNetConfig

Layer = dict[str, Any]


class BlockOptions(NamedTuple):
    """What is fixed when a block is compiled.

    Attributes:
      height: Of its feature maps, in pixels.
      width: Of its feature maps, in pixels.
      epsilon: Added to the variances.
      remat: Compute the bottlenecks again in the backward pass instead of keeping them.
    """

    height: int
    width: int
    epsilon: float
    remat: bool


class BlockOutput(NamedTuple):
    """What a block returns.

    Attributes:
      features: Input and all new maps, [G, D, P] or [B, H, W, D].
      statistics: Of these, each [D].
      inner: Statistics of each bottleneck; none in a block of plain layers.
    """

    features: Float[Array, "G D P"] | Float[Array, "B H W D"]
    statistics: Statistics
    inner: list[Statistics]


Path = tuple[str, ...]
Variables = Mapping[str, Any]


class Training(NamedTuple):
    """What computes the parts of a network on the statistics of the batch.

    Attributes:
      chunking: How the batch is cut.
      stem: Takes images [B, H, W, C] to maps [B, D, h, w] and the statistics of its normalization.
      dense_block: Takes chunks [G, C, P] through a block.
      transition: Takes them, and their statistics, through a transition.
      head: Takes them through the last normalization, ReLU and pooling, to [G, C, images].
    """

    chunking: Chunking
    stem: Callable[[DenseNetConfig, Variables, jax.Array], tuple[jax.Array, BatchStatistics | None]]
    dense_block: Callable[[BlockOptions, Sequence[Layer], jax.Array], BlockOutput]
    transition: Callable[[BlockOptions, Layer, jax.Array, Statistics], jax.Array]
    head: Callable[[BlockOptions, Layer, jax.Array, Statistics], jax.Array]


class Evaluation(NamedTuple):
    """What computes them on the running statistics.

    Attributes:
      chunking: How the batch is cut.
      stem: Takes images [B, H, W, C] to maps [B, D, h, w].
      block: Takes chunks [G, C, P] through a block, by its number, and what is behind it: the
        transition or the head.
    """

    chunking: Chunking
    stem: Callable[[DenseNetConfig, Variables, Variables, jax.Array], jax.Array]
    block: Callable[[BlockOptions, DenseNetConfig, Variables, Variables, int, jax.Array], jax.Array]


def train(
    parts: Training,
    config: DenseNetConfig,
    params: Variables,
    image: Float[Array, "B H W C"],
    *,
    remat: bool,
) -> tuple[Float[Array, "B D"], dict[Path, BatchStatistics]]:
    """Computes the pooled features on the statistics of the batch.

    Args:
      parts: What computes them.
      config: The network, without dropout.
      params: Its parameters under torchvision's names.
      image: [B, H, W, C].
      remat: Compute the bottlenecks again in the backward pass instead of keeping them.

    Returns:
      The pooled features [B, D], and the statistics of every normalization under its path.
    """
    seen: dict[Path, BatchStatistics] = {}
    x, of_stem = parts.stem(config, params, image)
    if of_stem is not None:
        seen["norm0",] = of_stem
    batch_size, _, height, width = x.shape
    x = to_chunks(parts.chunking, x)
    last_block = len(config.block_sizes)
    for block, num_layers in enumerate(config.block_sizes, start=1):
        names = [(f"denseblock{block}", f"denselayer{i}") for i in range(1, num_layers + 1)]
        layers = [params[outer][inner] for outer, inner in names]
        options = BlockOptions(height, width, config.batch_norm_epsilon, remat)
        count = batch_size * height * width
        x, statistics, inner_statistics = parts.dense_block(options, layers, x)
        for number, name in enumerate(names):
            seen[*name, "norm1"] = BatchStatistics(statistics, count)
            if inner_statistics:
                seen[*name, "norm2"] = BatchStatistics(inner_statistics[number], count)
        if block == last_block:
            seen["norm5",] = BatchStatistics(statistics, count)
            x = parts.head(options, params["norm5"], x, statistics)
        else:
            behind = f"transition{block}"
            seen[behind, "norm"] = BatchStatistics(statistics, count)
            x = parts.transition(options, params[behind], x, statistics)
            height, width = height // 2, width // 2
            x = resize_chunks(parts.chunking, x, height, width)
    return x.swapaxes(1, 2).reshape(batch_size, -1), seen


def evaluate(
    parts: Evaluation,
    config: DenseNetConfig,
    params: Variables,
    running: Variables,
    image: Float[Array, "B H W C"],
    *,
    remat: bool,
) -> Float[Array, "B D"]:
    """Computes the pooled features on the running statistics.

    Nothing depends on the rest of the batch, so a chunk passes through a whole block and what
    follows it before the next one does, and only its pooled output is kept.

    Args:
      parts: What computes them.
      config: The network.
      params: Its parameters under torchvision's names.
      running: Its running statistics, likewise.
      image: [B, H, W, C].
      remat: In a backward pass, as of a training with frozen statistics, compute each chunk of a
        block again instead of keeping its activations.

    Returns:
      The pooled features [B, D].
    """
    x = parts.stem(config, params, running, image)
    batch_size, _, height, width = x.shape
    x = to_chunks(parts.chunking, x)
    last_block = len(config.block_sizes)
    for block in range(1, last_block + 1):
        options = BlockOptions(height, width, config.batch_norm_epsilon, remat)
        x = parts.block(options, config, params, running, block, x)
        if block != last_block:
            height, width = height // 2, width // 2
            x = resize_chunks(parts.chunking, x, height, width)
    return x.swapaxes(1, 2).reshape(batch_size, -1)
