"""One walk over the network's parts, in training and in evaluation.

It goes through everything but the classifier: stem, blocks with transitions between them, head. An
implementation gives the functions that compute these parts, and keeps the feature maps in a form of
its own: [G, C, P] (chunks of the batch, channels, pixels) or [B, H, W, C].

Axes: B batch, H height, W width, C channels, D channels after a block or pooled features.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
from flax import traverse_util
from jaxtyping import Array, Float

from flax_densenet.implementations.statistics import BatchStatistics, Statistics
from flax_densenet.network.batch_norm import running_weights
from flax_densenet.network.config import DenseNetConfig
from flax_densenet.network.layers import ArrayPath

Layer = dict[str, Any]
Variables = Mapping[str, Any]
Vectors = list[jax.Array]


class BlockSettings(NamedTuple):
    """Constants of a block, fixed when it is compiled.

    Attributes:
      height: Height of its feature maps in pixels.
      width: Width of its feature maps in pixels.
      epsilon: Added to the variances.
      remat: Compute the bottlenecks again in the backward pass instead of keeping them.
    """

    height: int
    width: int
    epsilon: float
    remat: bool


class BlockOutput(NamedTuple):
    """Outputs of a dense block in training.

    Attributes:
      features: Input and all new maps, [G, D, P] or [B, H, W, D].
      statistics: Statistics of the features, each [D].
      inner: Statistics of each bottleneck; none in a block of plain layers.
    """

    features: Float[Array, "G D P"] | Float[Array, "B H W D"]
    statistics: Statistics
    inner: list[Statistics]


class TrainParts(NamedTuple):
    """Functions that compute the parts of a network on the statistics of the batch.

    Attributes:
      stem: Takes config, params and image [B, H, W, C] to the first maps, and to the statistics of
        the stem's normalization if it has one.
      dense_block: Takes settings, the layers' parameters and maps through a block.
      transition: Takes settings, parameters, maps and their statistics through a transition.
      head: Takes settings, "norm5", maps and their statistics to the pooled features [B, D].
      average: Returns kept * x + weight * y for each vector x of a list and y of another. Of a
        longer y the first numbers count: the statistics of a block begin with those of its layers.
    """

    stem: Callable[[DenseNetConfig, Variables, jax.Array], tuple[jax.Array, BatchStatistics | None]]
    dense_block: Callable[[BlockSettings, Sequence[Layer], jax.Array], BlockOutput]
    transition: Callable[[BlockSettings, Layer, jax.Array, Statistics], jax.Array]
    head: Callable[[BlockSettings, Layer, jax.Array, Statistics], jax.Array]
    average: Callable[[float, Vectors, float, Vectors], Vectors]


class EvaluateParts(NamedTuple):
    """Functions that compute the parts of a network on the running statistics.

    Each takes parameters and running statistics, as two trees with the same names.

    Attributes:
      stem: Takes config, both and image [B, H, W, C] to the first maps.
      transition: Takes settings, both of the block's layers, both of the transition, and maps
        through a block and its transition.
      head: Takes settings, both of the last block's layers, both of "norm5", and maps through the
        last block to the pooled features [B, D].
    """

    stem: Callable[[DenseNetConfig, Variables, Variables, jax.Array], jax.Array]
    transition: Callable[..., jax.Array]
    head: Callable[..., jax.Array]


def train(
    parts: TrainParts,
    config: DenseNetConfig,
    params: Variables,
    running: Variables,
    image: Float[Array, "B H W C"],
    *,
    remat: bool,
) -> tuple[Float[Array, "B D"], dict[str, Any]]:
    """Computes the pooled features on the statistics of the batch.

    Args:
      parts: Functions that compute the parts.
      config: The network, without dropout.
      params: Parameters under torchvision's names.
      running: Running statistics under the same names.
      image: [B, H, W, C].
      remat: Compute more again in the backward pass, and keep less.

    Returns:
      The pooled features [B, D], and the running statistics after the batch.
    """
    seen: dict[ArrayPath, BatchStatistics] = {}
    x, stem_statistics = parts.stem(config, params, image)
    if stem_statistics is not None:
        seen["norm0",] = stem_statistics
    for block, settings in enumerate(_settings(config, image, remat), start=1):
        names = _layer_names(config, block)
        layers = [params[f"denseblock{block}"][name] for name in names]
        count = image.shape[0] * settings.height * settings.width
        x, statistics, inner = parts.dense_block(settings, layers, x)
        for number, name in enumerate(names):
            path = (f"denseblock{block}", name)
            seen[*path, "norm1"] = BatchStatistics(statistics, count)
            if inner:
                seen[*path, "norm2"] = BatchStatistics(inner[number], count)
        if block != len(config.block_sizes):
            transition = f"transition{block}"
            seen[transition, "norm"] = BatchStatistics(statistics, count)
            x = parts.transition(settings, params[transition], x, statistics)
        else:
            seen["norm5",] = BatchStatistics(statistics, count)
            x = parts.head(settings, params["norm5"], x, statistics)
    return x, _update_running(parts, config, running, seen)


def evaluate(
    parts: EvaluateParts,
    config: DenseNetConfig,
    params: Variables,
    running: Variables,
    image: Float[Array, "B H W C"],
    *,
    remat: bool,
) -> Float[Array, "B D"]:
    """Computes the pooled features on the running statistics.

    Args:
      parts: Functions that compute the parts.
      config: The network.
      params: Parameters under torchvision's names.
      running: Running statistics under the same names.
      image: [B, H, W, C].
      remat: In a backward pass, as of a training with frozen statistics, compute activations again
        instead of keeping them.

    Returns:
      The pooled features [B, D].
    """
    x = parts.stem(config, params, running, image)
    for block, settings in enumerate(_settings(config, image, remat), start=1):
        layers, running_layers = (
            [tree[f"denseblock{block}"][name] for name in _layer_names(config, block)]
            for tree in (params, running)
        )
        is_last = block == len(config.block_sizes)
        name = "norm5" if is_last else f"transition{block}"
        part = parts.head if is_last else parts.transition
        x = part(settings, layers, running_layers, params[name], running[name], x)
    return x


def _settings(
    config: DenseNetConfig, image: Float[Array, "B H W C"], remat: bool
) -> list[BlockSettings]:
    """Returns the settings of each block, whose maps halve from one to the next."""
    height, width = image.shape[1:3]
    if config.stem == "imagenet":  # convolution and pooling halve, rounding up
        height, width = -(-height // 4), -(-width // 4)
    return [
        BlockSettings(height >> block, width >> block, config.batch_norm_epsilon, remat)
        for block in range(len(config.block_sizes))
    ]


def _layer_names(config: DenseNetConfig, block: int) -> list[str]:
    return [f"denselayer{number}" for number in range(1, config.block_sizes[block - 1] + 1)]


def _update_running(
    parts: TrainParts,
    config: DenseNetConfig,
    running: Variables,
    seen: Mapping[ArrayPath, BatchStatistics],
) -> dict[str, Any]:
    """Returns the running statistics after a batch; all vectors with one count go together."""
    before = traverse_util.flatten_dict(dict(running))
    after: dict[ArrayPath, jax.Array] = {}
    for count in {batch.num_values for batch in seen.values()}:
        batch = {path: b.statistics for path, b in seen.items() if b.num_values == count}
        kept, weight, weight_of_var = running_weights(count, config.batch_norm_momentum)
        for leaf, factor in (("mean", weight), ("var", weight_of_var)):
            old = [before[*path, leaf] for path in batch]
            new = [getattr(statistics, leaf) for statistics in batch.values()]
            averages = parts.average(kept, old, factor, new)
            after |= {(*path, leaf): x for path, x in zip(batch, averages, strict=True)}
    updated: dict[str, Any] = traverse_util.unflatten_dict(after)
    return updated
